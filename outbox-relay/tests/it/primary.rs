//! Only a direct session with a primary will do; the relay says so, and goes on by itself once it has one.

use std::{fs, time::Duration};

use outbox::UnitOfWork;
use sqlx::{AssertSqlSafe, PgPool};
use testkit::Dedicated;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use uuid::Uuid;

use crate::{scene::Scene, writers::event};

const WITHIN: Duration = Duration::from_secs(30);
const REFUSED: &str = "the server is a standby or read-only";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_is_refused_until_it_is_promoted() -> anyhow::Result<()> {
    let folder = std::env::temp_dir().join(format!("orderly-standby-{}", Uuid::now_v7().simple()));
    let mut postgres = Dedicated::postgres_in(&folder).await?;
    let scene = Scene::set_on(postgres.with_shared().await?).await?;
    append(&scene).await?;
    postgres.stop().await?;
    let data = stack::postgres::data_directory(&folder.join("postgres"))?;
    fs::write(data.join("standby.signal"), "")?;
    postgres.start().await?;
    let mut relay = scene.relay("relay")?;
    relay.says(REFUSED).await?;
    sqlx::raw_sql("select pg_promote()").execute(&scene.superuser).await?;
    scene.drained(WITHIN).await?;
    assert_eq!(relay.metric("outbox_published_total").await?, 1.0);
    assert!(relay.runs()?, "no other process was needed");
    scene.end()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_only_server_is_refused_until_it_is_not() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    append(&scene).await?;
    let read_only = |on: bool| {
        let relay = "alter role orderly_relay in database";
        format!("{relay} {} set default_transaction_read_only = {on}", scene.database())
    };
    sqlx::raw_sql(AssertSqlSafe(read_only(true))).execute(&scene.superuser).await?;
    let relay = scene.relay("relay")?;
    relay.says(REFUSED).await?;
    assert_eq!(scene.epoch().await?, 0, "it has not touched the cursor");
    sqlx::raw_sql(AssertSqlSafe(read_only(false))).execute(&scene.superuser).await?;
    scene.drained(WITHIN).await?;
    assert_eq!(relay.metric("outbox_published_total").await?, 1.0);
    scene.end()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pooler_that_drops_the_sessions_settings_is_refused() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let url = scene.url("orderly_relay");
    let host = url.split(['@', '/']).nth(3).unwrap_or_default().to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let through = url.replace(&host, &listener.local_addr()?.to_string());
    let pooler: JoinHandle<anyhow::Result<()>> = tokio::spawn(async move {
        loop {
            let (client, _) = listener.accept().await?;
            tokio::spawn(pool(client, TcpStream::connect(&host).await?));
        }
    });
    let relay = scene.relay_at("relay", &through)?;
    relay.says("not a transaction pooler's").await?;
    assert_eq!(scene.epoch().await?, 0, "it has not touched the cursor");
    pooler.abort();
    scene.end()
}

async fn append(scene: &Scene) -> anyhow::Result<()> {
    let app = PgPool::connect_with(scene.writer()?).await?;
    UnitOfWork::begin(&app).await?.commit(vec![event(Uuid::now_v7(), "alpha", "account-1", 1, 0)]).await?;
    app.close().await;
    Ok(())
}

/// Passes everything on but the client's `options`, which a pooler does not know.
async fn pool(mut client: TcpStream, mut server: TcpStream) -> anyhow::Result<()> {
    let (code, startup) = loop {
        let length = client.read_u32().await?;
        let mut startup = vec![0; usize::try_from(length)? - 4];
        client.read_exact(&mut startup).await?;
        let (code, rest) = startup.split_at(4);
        if code == 80_877_103_u32.to_be_bytes() {
            // A request for TLS.
            client.write_all(b"N").await?;
            continue;
        }
        break (code.to_vec(), rest.to_vec());
    };
    let mut kept = code;
    let mut words = startup.split(|byte| *byte == 0);
    while let (Some(name), Some(value)) = (words.next(), words.next()) {
        if !name.is_empty() && name != b"options" {
            kept.extend([name, b"\0", value, b"\0"].concat());
        }
    }
    kept.push(0);
    server.write_u32(u32::try_from(kept.len() + 4)?).await?;
    server.write_all(&kept).await?;
    tokio::io::copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}
