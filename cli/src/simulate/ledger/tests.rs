use std::{fs::OpenOptions, io::Write as _, sync::Arc};

use super::*;

fn open(path: &Path) -> (Result<Ledger, Error>, Vec<u32>) {
    let mut found = Vec::new();
    let ledger = Ledger::open(path, Durability::Synced, |number| found.push(number));
    (ledger, found)
}

#[tokio::test]
async fn keeps_every_acknowledged_line_of_concurrent_writers() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("new").join("ledger.ndjson");
    let ledger = Arc::new(open(&path).0?);
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..500_u32 {
        let ledger = Arc::clone(&ledger);
        tasks.spawn(async move { ledger.append(&number).await });
    }
    while let Some(appended) = tasks.join_next().await {
        appended??;
    }
    drop(ledger);

    let (_, mut found) = open(&path);
    found.sort_unstable();
    assert_eq!(found, (0..500).collect::<Vec<_>>());
    Ok(())
}

#[tokio::test]
async fn drops_a_torn_last_line_and_goes_on_after_the_whole_ones() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("ledger.ndjson");
    open(&path).0?.append(&1).await?;
    OpenOptions::new().append(true).open(&path)?.write_all(b"23")?;

    let (ledger, found) = open(&path);
    assert_eq!(found, [1]);
    ledger?.append(&4).await?;

    assert_eq!(open(&path).1, [1, 4]);
    Ok(())
}

#[test]
fn refuses_a_damaged_line_in_the_middle() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("ledger.ndjson");
    std::fs::write(&path, "1\nrubbish\n3\n")?;
    assert!(matches!(open(&path).0, Err(Error::Corrupt { line: 2, .. })));
    Ok(())
}

#[test]
fn refuses_a_second_owner_until_the_first_has_gone() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("ledger.ndjson");
    let first = open(&path).0?;
    assert!(matches!(open(&path).0, Err(Error::InUse { .. })));
    drop(first);
    open(&path).0?;
    Ok(())
}

#[tokio::test]
async fn stops_for_good_after_a_failed_write() -> anyhow::Result<()> {
    let full = OpenOptions::new().write(true).open("/dev/full")?;
    let (queue, lines) = mpsc::channel(QUEUE);
    let writer = thread::spawn(move || write_all(&full, lines, Durability::Synced));
    let ledger = Ledger { queue: Some(queue), writer: Some(writer) };
    assert!(matches!(ledger.append(&1).await, Err(Error::Stopped)));
    ledger.stopped().await;
    assert!(matches!(ledger.append(&2).await, Err(Error::Stopped)));
    Ok(())
}
