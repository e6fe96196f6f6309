//! The log channel, on the standard output of the real process.

use std::{
    fs::OpenOptions,
    io::{PipeReader, Read as _, Write as _, pipe},
    process::{Child, Command, Stdio},
    time::Duration,
};

use notification::domain::Kind;
use testkit::until;

use crate::scene::{ADDRESS, CUSTOMER, Scene};

const WITHIN: Duration = Duration::from_secs(30);
/// More than any pipe holds unless it is told to.
const PIPE_BYTES: usize = 64 * 1024;

/// `notification work` with a log that says nothing. Dropping it kills it.
struct Worker(Child);

impl Worker {
    fn start(scene: &Scene, output: impl Into<Stdio>) -> anyhow::Result<Self> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_notification"));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("ORDERLY_") {
                command.env_remove(name);
            }
        }
        command
            .arg("work")
            .env("RUST_LOG", "off")
            .env("ORDERLY_DATABASE_URL", scene.database.app_url())
            .env("ORDERLY_ADMIN", "127.0.0.1:0")
            // Nobody's port: what is to be delivered is in the database already.
            .env("ORDERLY_KAFKA", "127.0.0.1:1")
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(Stdio::null());
        Ok(Self(command.spawn()?))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The line that tells of a kind.
async fn line(scene: &Scene, kind: Kind) -> anyhow::Result<String> {
    let sql = "select notification_id::text from notifications where kind = $1";
    let id: String = sqlx::query_scalar(sql).bind(kind.name()).fetch_one(&scene.pool).await?;
    Ok(format!("notification notification_id={id} order_id={} kind={}\n", scene.order_id, kind.name()))
}

/// Waits until the only notification has this status, and has been tried at least so often.
async fn tried(scene: &Scene, status: &str, attempts: i32) -> anyhow::Result<()> {
    until(&format!("{status} after {attempts} attempts"), WITHIN, || async {
        let sql = "select status = $1 and attempts >= $2 from notifications";
        let so: bool = sqlx::query_scalar(sql).bind(status).bind(attempts).fetch_one(&scene.pool).await?;
        Ok(so.then_some(()))
    })
    .await
}

/// Takes exactly so many bytes out of a pipe.
async fn read(pipe: &PipeReader, bytes: usize) -> anyhow::Result<String> {
    let mut pipe = pipe.try_clone()?;
    let read = tokio::task::spawn_blocking(move || {
        let mut text = vec![0; bytes];
        pipe.read_exact(&mut text).map(|()| text)
    });
    Ok(String::from_utf8(tokio::time::timeout(WITHIN, read).await???)?)
}

#[tokio::test]
async fn what_is_delivered_stands_on_standard_output_whatever_the_log_shows() -> anyhow::Result<()> {
    let scene = Scene::set(&[]).await?;
    scene.ask(Kind::PaymentReceipt).await?;
    scene.ask(Kind::OrderConfirmed).await?;
    let expected = line(&scene, Kind::PaymentReceipt).await? + &line(&scene, Kind::OrderConfirmed).await?;
    let (output, writer) = pipe()?;
    let worker = Worker::start(&scene, writer)?;
    let delivered = ["PAYMENT_RECEIPT LOG DELIVERED 1", "ORDER_CONFIRMED LOG DELIVERED 1"];
    until("both are delivered", WITHIN, || async { Ok((scene.told().await? == delivered).then_some(())) })
        .await?;
    drop(worker);
    // Its end of the pipe is closed: this is all that it has written.
    let mut written = String::new();
    (&output).read_to_string(&mut written)?;
    assert_eq!(written, expected);
    for secret in [CUSTOMER, ADDRESS, "49.99"] {
        assert!(!written.contains(secret), "{written}");
    }
    Ok(())
}

#[tokio::test]
async fn a_line_that_is_refused_is_tried_again() -> anyhow::Result<()> {
    let scene = Scene::set(&[]).await?;
    scene.ask(Kind::OrderConfirmed).await?;
    let full = OpenOptions::new().write(true).open("/dev/full")?;
    let worker = Worker::start(&scene, full)?;
    tried(&scene, "PENDING", 3).await?;
    drop(worker);
    scene.end_leases().await?;
    let (output, writer) = pipe()?;
    let _worker = Worker::start(&scene, writer)?;
    let expected = line(&scene, Kind::OrderConfirmed).await?;
    assert_eq!(read(&output, expected.len()).await?, expected);
    tried(&scene, "DELIVERED", 4).await
}

#[tokio::test]
async fn a_line_that_nobody_has_room_for_is_not_delivered_yet() -> anyhow::Result<()> {
    let scene = Scene::set(&[]).await?;
    scene.ask(Kind::OrderConfirmed).await?;
    let (output, mut writer) = pipe()?;
    writer.write_all(&[b'.'; PIPE_BYTES])?;
    let _worker = Worker::start(&scene, writer)?;
    // The second attempt comes when the first has waited for its whole deadline.
    tried(&scene, "PENDING", 2).await?;
    read(&output, PIPE_BYTES).await?;
    let expected = line(&scene, Kind::OrderConfirmed).await?;
    assert_eq!(read(&output, expected.len()).await?, expected);
    tried(&scene, "DELIVERED", 2).await
}
