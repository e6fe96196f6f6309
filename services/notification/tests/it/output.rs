//! The log channel, on the standard output of the real process.

use std::{
    collections::HashSet,
    fs::OpenOptions,
    io::{PipeReader, Read as _, Write as _, pipe},
    time::Duration,
};

use notification::domain::Kind;
use testkit::until;
use uuid::Uuid;

use crate::{
    scene::{ADDRESS, CUSTOMER, Scene},
    worker::Worker,
};

const WITHIN: Duration = Duration::from_secs(30);
/// More than any pipe holds unless it is told to.
const PIPE_BYTES: usize = 64 * 1024;

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

#[tokio::test]
async fn of_many_lines_only_those_that_found_no_room_are_written_again() -> anyhow::Result<()> {
    const LINES: usize = 200;
    const PAGE: usize = 4 * 1024;
    let mut scene = Scene::set(&[]).await?;
    for _ in 0..LINES {
        scene.order_id = Uuid::now_v7();
        scene.ask(Kind::OrderConfirmed).await?;
    }
    let (output, mut writer) = pipe()?;
    writer.write_all(&vec![b'.'; PIPE_BYTES - 2 * PAGE])?;
    let worker = Worker::start(&scene, writer)?;
    let count = "select count(*) from notifications where status = 'DELIVERED'";
    let delivered = async || anyhow::Ok(sqlx::query_scalar::<_, i64>(count).fetch_one(&scene.pool).await?);
    let first = until("some are delivered", WITHIN, || async {
        Ok(Some(delivered().await?).filter(|delivered| *delivered > 0))
    })
    .await?;
    assert!(first < LINES as i64, "there was no room for {first}");
    let reader = std::thread::spawn(move || {
        let mut written = String::new();
        (&output).read_to_string(&mut written).map(|_| written)
    });
    until("all are delivered", WITHIN, || async { Ok((delivered().await? == LINES as i64).then_some(())) })
        .await?;
    drop(worker);
    let written = reader.join().expect("no panic")?;
    let lines: Vec<&str> = written.trim_start_matches('.').lines().collect();
    let different: HashSet<&str> = lines.iter().copied().collect();
    assert_eq!(different.len(), LINES);
    // Those of the write that was cut off, which nobody knows to have been read.
    assert!(lines.len() - LINES <= 25, "{} lines", lines.len());
    Ok(())
}
