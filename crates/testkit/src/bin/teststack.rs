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
use testkit::{Dedicated, Servers};

/// How long nobody may hold the socket.
const IDLE: Duration = Duration::from_secs(20);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let folder = std::env::current_exe()?.parent().context("runs from target/<profile>")?.to_owned();
    let lock = fs::File::create(folder.join("teststack.lock"))?;
    let Ok(_lock) = Flock::lock(lock, FlockArg::LockExclusiveNonblock) else { return Ok(()) };
    let data = folder.join("teststack.data");
    let postgres = Dedicated::postgres_in(&data.join("postgres")).await?;
    let kafka = Dedicated::kafka_in(&data.join("kafka"), &[]).await?;
    let servers = Servers { postgres: postgres.address(), kafka: kafka.address() };
    serve(folder.join("teststack.sock"), &servers).await?;
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
