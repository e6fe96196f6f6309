//! A copy of a platform at rest, made to be damaged: every damage is undone by copying again.

use std::{fs, path::PathBuf, process::Output, time::Duration};

use anyhow::Context as _;
use cli::{
    credentials::{AUDIT, Credentials},
    platform::{DataDir, Database},
};
use serde::Deserialize;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, PgPool};
use testkit::{Dedicated, Part, Platform};
use tokio::process::Command;

use super::topic::{Position, Topic};
use crate::home;

/// The longest that `orderly` may take.
const WITHIN: Duration = Duration::from_secs(60);

/// Nothing moves in a copy, so nothing is waited for.
pub const VERIFY: [&str; 3] = ["verify", "--settle", "0s"];

/// A way to damage the copy.
pub enum Damage<'a> {
    /// Statements that a superuser runs.
    Sql(Database, String),
    /// Another content of a file in the data directory.
    File(PathBuf, Change<'a, String>),
    /// No such file in the data directory.
    Gone(PathBuf),
    /// Other records in order-status.
    Topic(Change<'a, Vec<rdkafka::message::OwnedMessage>>),
    /// No record in the partitions of order-status that this order is not in; retention would have done so, or not yet.
    Emptied { but: &'a str, expired: bool },
    /// The group order forgets that it has read the last record of a partition.
    Unread,
}

pub type Change<'a, T> = Box<dyn Fn(&mut T) + 'a>;

/// What `orderly verify --json` has found.
#[derive(Debug, Deserialize)]
pub struct Report {
    pub holds: bool,
    pub invariants: Vec<Invariant>,
}

#[derive(Debug, Deserialize)]
pub struct Invariant {
    pub name: String,
    pub outcome: String,
    pub checked: u64,
    pub offenders: Vec<Offender>,
}

#[derive(Debug, Deserialize)]
pub struct Offender {
    pub subject: String,
    pub problem: String,
}

/// The copy, in databases with the names that `orderly` expects, and a data directory of its own. Groups and topics are
/// the platform's.
pub struct Copy {
    /// What it is a copy of.
    pub platform: Platform,
    /// A superuser of the server that has the databases.
    server: PgPool,
    folder: tempfile::TempDir,
    order_status: Option<Topic>,
    payment_results: Option<Position>,
    kept: Vec<(PathBuf, String)>,
}

impl Copy {
    /// An empty one: without tables, records and ledgers.
    pub async fn empty(platform: Platform, postgres: &Dedicated) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let data_dir = DataDir::from(folder.path());
        Credentials::ensure(&folder.path().join("credentials.json"), [AUDIT])?;
        home::write_record(&platform, &data_dir)?;
        let copy = Self {
            platform,
            server: PgPool::connect(&format!("{}/postgres", postgres.address())).await?,
            folder,
            order_status: None,
            payment_results: None,
            kept: Vec::new(),
        };
        for database in Database::ALL {
            copy.recreate(database, "template1").await?;
        }
        Ok(copy)
    }

    /// Copies what the platform holds; none of its services may run meanwhile.
    pub async fn take(&mut self) -> anyhow::Result<()> {
        for database in Database::ALL {
            self.clone_database(database).await?;
        }
        let folder = self.folder.path();
        for part in [Part::Provider, Part::Mail] {
            let ledger = self.platform.ledger(part);
            fs::copy(&ledger, folder.join(ledger.file_name().context("a file")?))?;
        }
        let runs = fs::read_dir(folder.join("acked"))?.map(|run| Ok(run?.path()));
        let ledgers = ["provider.ndjson", "mail.ndjson"].map(|name| Ok(folder.join(name)));
        self.kept = runs
            .chain(ledgers)
            .map(|path: anyhow::Result<PathBuf>| {
                let path = path?;
                let text = fs::read_to_string(&path)?;
                Ok((path, text))
            })
            .collect::<anyhow::Result<_>>()?;
        let (kafka, prefix) = (self.platform.kafka(), &self.platform.prefix);
        self.order_status = Some(Topic::read(kafka, format!("{prefix}order-status"))?);
        let (group, topic) = (format!("{prefix}order"), format!("{prefix}payment-results"));
        self.payment_results = Some(Position::of(kafka, &group, &topic)?);
        Ok(())
    }

    pub async fn damage(&self, damage: &Damage<'_>) -> anyhow::Result<()> {
        match damage {
            Damage::Sql(database, sql) => {
                let options = (*self.server.connect_options()).clone().database(database.name());
                let mut connection = PgConnection::connect_with(&options).await?;
                let done = sqlx::raw_sql(AssertSqlSafe(sql.as_str())).execute(&mut connection).await?;
                connection.close().await?;
                anyhow::ensure!(done.rows_affected() > 0, "changes no row: {sql}");
            }
            Damage::File(path, change) => {
                let (path, before) = self.kept(path)?;
                let mut text = before.clone();
                change(&mut text);
                anyhow::ensure!(text != *before, "{} is as it was", path.display());
                fs::write(path, text)?;
            }
            Damage::Gone(path) => fs::remove_file(self.kept(path)?.0)?,
            Damage::Topic(change) => self.topic()?.change(change).await?,
            Damage::Emptied { but, expired } => self.topic()?.empty(but, *expired).await?,
            Damage::Unread => self.position()?.step_back()?,
        }
        Ok(())
    }

    pub async fn undo(&self, damage: &Damage<'_>) -> anyhow::Result<()> {
        match damage {
            Damage::Sql(database, _) => self.clone_database(*database).await,
            Damage::File(path, _) | Damage::Gone(path) => {
                let (path, before) = self.kept(path)?;
                Ok(fs::write(path, before)?)
            }
            Damage::Topic(_) | Damage::Emptied { .. } => self.topic()?.restore().await,
            Damage::Unread => self.position()?.restore(),
        }
    }

    /// The record of the one run of `orderly load`, below the data directory.
    pub fn run(&self) -> anyhow::Result<PathBuf> {
        let run = self.kept.iter().find(|(path, _)| path.parent().is_some_and(|dir| dir.ends_with("acked")));
        Ok(run.context("a run")?.0.strip_prefix(self.folder.path())?.to_owned())
    }

    /// Runs `orderly verify` on the copy as it is, and reads its report.
    pub async fn verify(&self) -> anyhow::Result<(Option<i32>, Report)> {
        let output = self.orderly(&[&VERIFY[..], &["--json"]].concat()).await?;
        let said = String::from_utf8_lossy(&output.stderr);
        let report = serde_json::from_slice(&output.stdout).with_context(|| format!("no report; {said}"))?;
        Ok((output.status.code(), report))
    }

    /// The read-only role's URL.
    pub fn audit_url(&self) -> String {
        self.platform.order.url(AUDIT)
    }

    /// Runs `orderly`; arguments may name other servers than the copy's.
    pub async fn orderly(&self, args: &[&str]) -> anyhow::Result<Output> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_orderly"));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("ORDERLY_") {
                command.env_remove(name);
            }
        }
        command.arg("--data-dir").arg(self.folder.path()).args(args);
        command.env("ORDERLY_POSTGRES", self.audit_url()).kill_on_drop(true);
        Ok(tokio::time::timeout(WITHIN, command.output()).await??)
    }

    fn kept(&self, path: &PathBuf) -> anyhow::Result<(&PathBuf, &String)> {
        let path = self.folder.path().join(path);
        let kept = self.kept.iter().find(|(known, _)| *known == path);
        kept.map(|(path, text)| (path, text)).context("a file that was copied")
    }

    fn topic(&self) -> anyhow::Result<&Topic> {
        self.order_status.as_ref().context("nothing was copied yet")
    }

    fn position(&self) -> anyhow::Result<&Position> {
        self.payment_results.as_ref().context("nothing was copied yet")
    }

    async fn clone_database(&self, database: Database) -> anyhow::Result<()> {
        let of = match database {
            Database::Order => &self.platform.order,
            Database::Inventory => &self.platform.inventory,
            Database::Billing => &self.platform.billing,
            Database::Notification => &self.platform.notification,
        };
        let url = of.app_url();
        self.recreate(database, url.rsplit('/').next().context("a database")?).await
    }

    async fn recreate(&self, database: Database, template: &str) -> anyhow::Result<()> {
        let name = database.name();
        for sql in [
            format!("drop database if exists {name} with (force)"),
            format!("create database {name} template {template} strategy file_copy"),
        ] {
            sqlx::raw_sql(AssertSqlSafe(sql)).execute(&self.server).await?;
        }
        Ok(())
    }
}
