//! PostgreSQL as a child process, on the machine's own installation.

use std::{path::PathBuf, time::Duration};

use sqlx::{Connection as _, PgConnection};
use stack::{
    Error, Server, port,
    postgres::{self, Config},
};

use crate::scratch::Scratch;

const WITHIN: Duration = Duration::from_secs(60);

fn config(scratch: &Scratch) -> Config {
    Config {
        port: port::free(),
        data: scratch.path().join("data").join("postgres"),
        superuser_password: "secret".to_owned(),
        settings: vec![
            ("fsync".to_owned(), "off".to_owned()),
            ("shared_buffers".to_owned(), "16MB".to_owned()),
        ],
    }
}

fn log(scratch: &Scratch) -> PathBuf {
    scratch.path().join("logs").join("postgres.log")
}

async fn start(config: &Config, scratch: &Scratch) -> stack::Result<Server> {
    let mut server = Server::start(&postgres::prepare(config).await?, &log(scratch))?;
    server.until(postgres::ready(&postgres::url(config), WITHIN)).await?;
    Ok(server)
}

async fn number(config: &Config, query: &'static str) -> anyhow::Result<i32> {
    let mut connection = PgConnection::connect(&postgres::url(config)).await?;
    Ok(sqlx::query_scalar(query).fetch_one(&mut connection).await?)
}

#[tokio::test]
async fn its_data_outlives_a_stop_and_a_kill() -> anyhow::Result<()> {
    let scratch = Scratch::new()?;
    let mut config = config(&scratch);
    let server = start(&config, &scratch).await?;
    // It stays connected, which does not hold the stop up.
    let mut connection = PgConnection::connect(&postgres::url(&config)).await?;
    sqlx::query("CREATE TABLE t AS SELECT 7 AS n").execute(&mut connection).await?;
    server.stop().await?;

    config.port = port::free();
    let mut server = start(&config, &scratch).await?;
    assert_eq!(number(&config, "SELECT n FROM t").await?, 7);
    let held = PgConnection::connect(&postgres::url(&config)).await?;
    server.kill().await?;

    let server = start(&config, &scratch).await?;
    assert_eq!(number(&config, "SELECT n FROM t").await?, 7);
    drop(held);
    server.stop().await?;
    let log = std::fs::read_to_string(log(&scratch))?;
    assert!(log.contains("database system was not properly shut down"), "{log}");
    Ok(())
}

#[tokio::test]
async fn data_that_is_in_use_is_refused() -> anyhow::Result<()> {
    let scratch = Scratch::new()?;
    let config = config(&scratch);
    let server = start(&config, &scratch).await?;
    let message = postgres::prepare(&config).await.expect_err("the data is in use").to_string();
    assert!(message.contains(&format!("PostgreSQL with pid {} already uses", server.pid())), "{message}");
    server.stop().await?;
    postgres::prepare(&config).await?;
    Ok(())
}

#[tokio::test]
async fn another_password_is_told_apart_from_no_answer() -> anyhow::Result<()> {
    let scratch = Scratch::new()?;
    let config = config(&scratch);
    start(&config, &scratch).await?.stop().await?;
    let other = Config { superuser_password: "another".to_owned(), ..config };
    let err = start(&other, &scratch).await.expect_err("the password is another");
    assert!(matches!(err, Error::PostgresRefused { .. }), "{err}");
    assert!(!format!("{err:?}").contains("another"), "a secret shows");
    Ok(())
}

#[tokio::test]
async fn a_wrong_setting_ends_the_start_with_the_log() -> anyhow::Result<()> {
    let scratch = Scratch::new()?;
    let mut config = config(&scratch);
    config.settings.push(("no_such_setting".to_owned(), "1".to_owned()));
    let message = start(&config, &scratch).await.expect_err("the setting is wrong").to_string();
    assert!(message.starts_with("PostgreSQL ended early (exit status: 1)"), "{message}");
    assert!(message.contains("no_such_setting"), "{message}");
    Ok(())
}
