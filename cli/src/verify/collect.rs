//! Reads the facts: databases as the read-only role, topics without a group, ledgers and run records from their files.
//!
//! Nothing here goes through the services or their crates, so that what they get wrong is not got wrong twice.

mod billing;
mod files;
mod inventory;
mod items;
mod letters;
mod notification;
mod order;
mod queues;
mod retention;
pub(super) mod topics;

use std::{str::FromStr as _, time::Duration};

use super::facts::{Digest, Facts, Group, NotificationStatus};
use crate::platform::{Database, Platform};
use anyhow::Context as _;
use sha2::{Digest as _, Sha256};
use sqlx::{
    Connection as _, PgConnection, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};

/// Longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(5);

/// Days back to which no leaf of an outbox can have been cleared: those of today and its neighbours are never.
const OUTBOX_DAYS: i64 = 1;
/// The same of an inbox, which refuses what is older, and what is from after tomorrow.
const INBOX_DAYS: i64 = 28;

/// The databases, as the audit role.
#[derive(Debug)]
pub(super) struct Databases(Vec<(Database, PgPool)>);

impl Databases {
    /// Prepares connections; the first use makes them.
    pub(super) fn new(platform: &Platform) -> anyhow::Result<Self> {
        let pool = |database: Database| -> anyhow::Result<(Database, PgPool)> {
            // Not the whole error: it may show the URL.
            let options = PgConnectOptions::from_str(&platform.audit_url(database)?)
                .map_err(|_| anyhow::anyhow!("the URL of {} is not valid", database.name()))?
                .application_name("orderly verify");
            let pool = PgPoolOptions::new().max_connections(1).acquire_timeout(CONNECT);
            Ok((database, pool.connect_lazy_with(options)))
        };
        Ok(Self(Database::ALL.into_iter().map(pool).collect::<anyhow::Result<_>>()?))
    }

    /// Each database with its pool.
    pub(super) fn all(&self) -> impl Iterator<Item = (Database, &PgPool)> {
        self.0.iter().map(|(database, pool)| (*database, pool))
    }
}

/// Reads everything.
pub(super) async fn facts(platform: &Platform, databases: &Databases) -> anyhow::Result<Facts> {
    let mut facts = Facts { outbox_kept_since: i64::MIN, inbox_days: i64::MIN..i64::MAX, ..Facts::default() };
    // The runs first: an order is in the database before its line is written.
    let system_identifier = system_identifier(databases).await?;
    facts.acked = files::acked(&platform.acked_dir(), system_identifier)?;
    for (database, pool) in databases.all() {
        let read = async {
            let mut connection = pool.acquire().await?;
            // One snapshot: rows that belong together are read together.
            let mut transaction = connection.begin().await?;
            sqlx::query("set transaction isolation level repeatable read, read only")
                .execute(&mut *transaction)
                .await?;
            read(database, &mut transaction, platform.prefix(), &mut facts).await?;
            anyhow::Ok(())
        };
        read.await.with_context(|| unreadable(database))?;
    }
    facts.log = topics::read(platform).await?;
    facts.provider = files::provider(&platform.provider_ledger())?;
    facts.mails = files::mails(&platform.mail_ledger())?;
    require_ledgers(platform, &facts)?;
    Ok(facts)
}

/// Says which database does not answer, and what to do.
pub(super) fn unreadable(database: Database) -> String {
    format!("database {} could not be read; is the platform up, and migrated?", database.name())
}

async fn system_identifier(databases: &Databases) -> anyhow::Result<i64> {
    let order = databases.all().find(|(database, _)| *database == Database::Order);
    let (database, pool) = order.context("the order database is one of them")?;
    let asked = async { order::system_identifier(&mut *pool.acquire().await?).await };
    asked.await.with_context(|| unreadable(database))
}

async fn read(
    database: Database,
    connection: &mut PgConnection,
    prefix: &str,
    facts: &mut Facts,
) -> anyhow::Result<()> {
    match database {
        Database::Order => {
            facts.orders = order::orders(connection).await?;
            facts.order_events = order::events(connection).await?;
            facts.offers = order::offers(connection).await?;
        }
        Database::Inventory => {
            facts.products = inventory::products(connection).await?;
            facts.reservations = inventory::reservations(connection).await?;
        }
        Database::Billing => {
            facts.payments = billing::payments(connection).await?;
            facts.postings = billing::postings(connection).await?;
        }
        Database::Notification => facts.notifications = notification::notifications(connection).await?,
    }
    queues::outbox(connection, database, &mut facts.outbox).await?;
    queues::overtaken(connection, database, &mut facts.overtaken).await?;
    let group = Group::from(database);
    queues::inbox(connection, group, prefix, &mut facts.inbox).await?;
    letters::letters(connection, group, prefix, &mut facts.dead_letters).await?;
    letters::holds(connection, group, prefix, &mut facts.holds).await?;
    // Read after the rows, so that a midnight between the two makes it later.
    let today = queues::today(connection).await?;
    facts.outbox_kept_since = facts.outbox_kept_since.max(today - OUTBOX_DAYS);
    let days = &mut facts.inbox_days;
    *days = days.start.max(today - INBOX_DAYS)..days.end.min(today + 2);
    Ok(())
}

/// A ledger that is not there is no evidence of anything.
fn require_ledgers(platform: &Platform, facts: &Facts) -> anyhow::Result<()> {
    let charged = facts.payments.iter().any(|payment| payment.reference.is_some());
    let mailed = facts
        .notifications
        .iter()
        .any(|notification| notification.email && notification.status == NotificationStatus::Delivered);
    let needed =
        [(charged, platform.provider_ledger(), "provider"), (mailed, platform.mail_ledger(), "mail")];
    for (needed, path, part) in needed {
        let exists = path.exists();
        let path = path.display();
        anyhow::ensure!(
            !needed || exists,
            "the {part} ledger {path} does not exist; run `orderly simulate {part}` with --ledger {path}, or name the right --data-dir"
        );
    }
    Ok(())
}

/// Of topic, key, headers and payload, each with its length, so that no two records share their bytes by shifting them.
pub(super) fn digest(topic: &str, key: Option<&[u8]>, headers: &[u8], payload: Option<&[u8]>) -> Digest {
    let mut sha = Sha256::new();
    for part in [Some(topic.as_bytes()), key, Some(headers), payload] {
        let length = part.map_or(-1, |bytes| i64::try_from(bytes.len()).unwrap_or(i64::MAX));
        sha.update(length.to_be_bytes());
        sha.update(part.unwrap_or_default());
    }
    let mut digest = Digest::default();
    digest.copy_from_slice(&sha.finalize()[..16]);
    digest
}

/// A name of this platform's closed sets.
pub(super) fn known<T>(parsed: Option<T>, text: &str, what: &str) -> anyhow::Result<T> {
    parsed.with_context(|| {
        format!(
            "{what} {text:?} is not known to this version; use the `orderly` command of the release that runs"
        )
    })
}
