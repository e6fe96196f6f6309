//! What `orderly verify` says when there is nothing that it could judge: exit code 2, and what to do.

use std::{net::TcpListener, path::Path, process::Output};

use anyhow::Context as _;
use cli::{
    credentials::{AUDIT, Credentials},
    platform::{
        DataDir, Endpoints,
        process::Identity,
        record::{Phase, UpRecord},
    },
};
use tokio::process::Command;

async fn verify(data_dir: &Path) -> anyhow::Result<Output> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_orderly"));
    command.arg("--data-dir").arg(data_dir).args(["verify", "--settle", "0s", "--json"]).kill_on_drop(true);
    Ok(command.output().await?)
}

#[tokio::test]
async fn without_a_platform_nothing_is_judged() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let refused = verify(dir.path()).await?;
    assert_eq!(refused.status.code(), Some(2));
    assert!(refused.stdout.is_empty());
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.contains("no platform was started") && said.contains("`make up`"), "{said}");
    Ok(())
}

#[tokio::test]
async fn a_database_that_does_not_answer_is_named_without_its_password() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let data_dir = DataDir::from(dir.path());
    let credentials = Credentials::ensure(&dir.path().join("credentials.json"), [AUDIT])?;
    // Nobody listens on a port that was just given back.
    let nobody = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let endpoints = Endpoints {
        postgres: format!("postgres://{nobody}"),
        kafka: nobody.to_string(),
        prefix: String::new(),
        order: nobody,
        inventory: nobody,
        billing: nobody,
        notification: nobody,
        order_admin: nobody,
        inventory_admin: nobody,
        billing_admin: nobody,
        notification_admin: nobody,
        relay_admin: nobody,
        exporter: nobody,
        provider: nobody,
        mail: nobody,
        observe: None,
    };
    let record = UpRecord {
        supervisor: Identity { pid: 1, start_time: 0 },
        phase: Phase::Stopped,
        endpoints,
        directories: Default::default(),
        processes: Vec::new(),
    };
    record.write(&data_dir)?;

    let unread = verify(dir.path()).await?;
    assert_eq!(unread.status.code(), Some(2));
    assert!(unread.stdout.is_empty());
    let said = String::from_utf8_lossy(&unread.stderr);
    assert!(said.contains("database orderly_order could not be read; is the platform up"), "{said}");
    assert!(!said.contains(credentials.password(AUDIT).context("it was made")?), "{said}");
    Ok(())
}
