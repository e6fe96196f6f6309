//! A data directory that tells `orderly` where a test's platform is.

use std::{
    fs,
    net::SocketAddr,
    process::{Output, Stdio},
    time::Duration,
};

use anyhow::Context as _;
use cli::platform::{
    DataDir, Database, Endpoints,
    process::Identity,
    record::{Phase, UpRecord},
};
use testkit::{Part, Platform};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    process::Command,
};

/// The longest that `orderly` may take.
const WITHIN: Duration = Duration::from_secs(60);

/// A data directory, and a way to the test's databases by the names that `orderly` knows.
pub struct Home {
    folder: tempfile::TempDir,
    prefix: String,
    server: SocketAddr,
}

impl Home {
    pub async fn of(platform: &Platform) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let data_dir = DataDir::from(folder.path());
        fs::write(folder.path().join("credentials.json"), r#"{"passwords":{}}"#)?;
        write_record(platform, &data_dir)?;
        for part in [Part::Provider, Part::Mail] {
            let ledger = platform.ledger(part);
            std::os::unix::fs::symlink(&ledger, folder.path().join(ledger.file_name().context("a file")?))?;
        }
        Ok(Self { folder, prefix: platform.prefix.clone(), server: names(platform).await? })
    }

    /// Runs `orderly` as a role of the databases.
    pub async fn orderly(&self, role: &str, args: &[&str]) -> anyhow::Result<Said> {
        Ok(Said::of(tokio::time::timeout(WITHIN, self.command(role, args).output()).await??))
    }

    /// `orderly`, to be run as a role of the databases.
    pub fn command(&self, role: &str, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_orderly"));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("ORDERLY_") {
                command.env_remove(name);
            }
        }
        command.arg("--data-dir").arg(self.folder.path()).args(args);
        command.env("ORDERLY_POSTGRES", format!("postgres://{role}:tests-on-loopback@{}", self.server));
        command.env("ORDERLY_PREFIX", &self.prefix).stdin(Stdio::null()).kill_on_drop(true);
        command
    }
}

/// How a command has ended, and what it has said.
#[derive(Debug)]
pub struct Said {
    pub code: Option<i32>,
    /// On stdout.
    pub data: String,
    /// On stderr.
    pub words: String,
}

impl Said {
    pub fn of(Output { status, stdout, stderr }: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Self { code: status.code(), data: text(stdout), words: text(stderr) }
    }
}

/// Writes where a platform is, as `up` does.
pub fn write_record(platform: &Platform, data_dir: &DataDir) -> anyhow::Result<()> {
    let address = |part| -> anyhow::Result<SocketAddr> { Ok(platform.admin(part).parse()?) };
    let grpc = |part| -> anyhow::Result<SocketAddr> {
        Ok(platform.grpc(part).trim_start_matches("http://").parse()?)
    };
    let endpoints = Endpoints {
        postgres: "postgres://--postgres.names.it".to_owned(),
        kafka: platform.kafka().to_owned(),
        prefix: platform.prefix.clone(),
        order: grpc(Part::Order)?,
        inventory: grpc(Part::Inventory)?,
        billing: grpc(Part::Billing)?,
        notification: grpc(Part::Notification)?,
        order_admin: address(Part::Order)?,
        inventory_admin: address(Part::Inventory)?,
        billing_admin: address(Part::Billing)?,
        notification_admin: address(Part::Notification)?,
        relay_admin: address(Part::Relay)?,
        exporter: ([127, 0, 0, 1], 0).into(),
        provider: address(Part::Provider)?,
        mail: address(Part::Mail)?,
        observe: None,
    };
    let record = UpRecord {
        supervisor: Identity { pid: 1, start_time: 0 },
        phase: Phase::Stopped,
        endpoints,
        directories: Default::default(),
        processes: Vec::new(),
    };
    record.write(data_dir)
}

/// A server whose databases are the platform's, by other names: it says the right ones where a client says which it
/// wants, and passes everything else on.
async fn names(platform: &Platform) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let url = platform.order.app_url();
    let server = url.split(['@', '/']).nth(3).context("a host")?.to_owned();
    let names = [
        (Database::Order, &platform.order),
        (Database::Inventory, &platform.inventory),
        (Database::Billing, &platform.billing),
        (Database::Notification, &platform.notification),
    ]
    .map(|(known, database)| {
        (known.name(), database.app_url().rsplit('/').next().unwrap_or_default().to_owned())
    });
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(pass_on(client, server.clone(), names.clone()));
        }
    });
    Ok(address)
}

async fn pass_on(mut client: TcpStream, server: String, names: [(&str, String); 4]) -> std::io::Result<()> {
    // The first message: its length, the version, and pairs of texts that end with a zero.
    let length = client.read_u32().await?;
    let mut start = vec![0; length.saturating_sub(4) as usize];
    client.read_exact(&mut start).await?;
    let mut start = String::from_utf8_lossy(&start).into_owned();
    for (known, name) in &names {
        start = start.replace(&format!("database\0{known}\0"), &format!("database\0{name}\0"));
    }
    let mut server = TcpStream::connect(server).await?;
    server.write_u32(start.len() as u32 + 4).await?;
    server.write_all(start.as_bytes()).await?;
    tokio::io::copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}
