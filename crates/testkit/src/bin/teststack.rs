//! Holds the servers that the test processes of this checkout share, until nobody needs them any more.

use std::{
    fs,
    io::Write as _,
    os::unix::net::{UnixListener, UnixStream},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context as _;
use nix::fcntl::{Flock, FlockArg};
use stack::Server;
use testkit::Servers;

/// How long a server may take to answer.
const READY: Duration = Duration::from_secs(60);
/// How long nobody may hold the socket.
const IDLE: Duration = Duration::from_secs(20);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let folder = std::env::current_exe()?.parent().context("runs from target/<profile>")?.to_owned();
    let lock = fs::File::create(folder.join("teststack.lock"))?;
    let Ok(_lock) = Flock::lock(lock, FlockArg::LockExclusiveNonblock) else { return Ok(()) };
    let data = folder.join("teststack.data");
    let postgres_data = stack::postgres::data_directory(&data.join("postgres"))?;
    // Left by a predecessor that was killed.
    for old in [&data, &postgres_data] {
        if old.exists() {
            fs::remove_dir_all(old)?;
        }
    }
    fs::create_dir_all(&data)?;
    let libs = folder.join("kafka-libs");
    stack::kafka::install(&libs).await?;

    let config = stack::postgres::Config {
        port: stack::port::free(),
        data: postgres_data.clone(),
        superuser_password: "tests-on-loopback".to_owned(),
        // Databases live for a second; a crash of the machine may lose them.
        settings: [("fsync", "off"), ("max_connections", "400"), ("max_prepared_transactions", "20")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec(),
    };
    let mut postgres = Server::start(&stack::postgres::prepare(&config).await?, &data.join("postgres.log"))?;
    postgres.until(stack::postgres::ready(&stack::postgres::url(&config), READY)).await?;
    let broker = stack::kafka::Config {
        port: stack::port::free(),
        controller_port: stack::port::free(),
        data: data.join("kafka"),
        libs,
        heap: "512m".to_owned(),
    };
    let bootstrap = format!("127.0.0.1:{}", broker.port);
    let mut kafka = Server::start(&stack::kafka::prepare(&broker).await?, &data.join("kafka.log"))?;
    kafka.until(stack::kafka::ready(&bootstrap, READY)).await?;
    let servers = Servers {
        postgres: format!("postgres://postgres:{}@127.0.0.1:{}", config.superuser_password, config.port),
        kafka: bootstrap,
    };
    serve(folder.join("teststack.sock"), &servers).await?;
    kafka.stop().await?;
    postgres.stop().await?;
    for folder in [data, postgres_data] {
        let _ = fs::remove_dir_all(folder);
    }
    Ok(())
}

/// Tells everyone who connects where the servers are; returns when nobody has been connected for a while.
async fn serve(socket: PathBuf, servers: &Servers) -> anyhow::Result<()> {
    // The socket of a predecessor that was killed.
    let _ = fs::remove_file(&socket);
    let listener = UnixListener::bind(&socket)?;
    listener.set_nonblocking(true)?;
    let listener = tokio::net::UnixListener::from_std(listener)?;
    let holders = Arc::new(AtomicUsize::new(0));
    let greeting = format!("{}\n", serde_json::to_string(servers)?);
    let mut idle_since = Instant::now();
    loop {
        if let Ok(Ok((stream, _))) = tokio::time::timeout(Duration::from_secs(1), listener.accept()).await {
            let stream: UnixStream = stream.into_std()?;
            let (holders, greeting) = (Arc::clone(&holders), greeting.clone());
            holders.fetch_add(1, Ordering::SeqCst);
            tokio::task::spawn_blocking(move || {
                let _ = hold(stream, &greeting);
                holders.fetch_sub(1, Ordering::SeqCst);
            });
        }
        if holders.load(Ordering::SeqCst) > 0 {
            idle_since = Instant::now();
        }
        if idle_since.elapsed() > IDLE {
            // From here on a newcomer finds no socket and starts a stack of its own once this lock is free.
            fs::remove_file(&socket)?;
            return Ok(());
        }
    }
}

/// Until the other side goes.
fn hold(mut stream: UnixStream, greeting: &str) -> std::io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.write_all(greeting.as_bytes())?;
    std::io::copy(&mut stream, &mut std::io::sink())?;
    Ok(())
}
