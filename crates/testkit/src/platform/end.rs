//! How a platform has ended, which is part of what its test asserts.

use std::{fs, process::Child, time::Duration};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{Part, Platform};
use crate::{topics, until};

/// What sqlx warns of on a busy machine, which is no fault of what is tested.
const SLOW: [&str; 2] = ["slow statement", "slow threshold"];

/// A WARN or ERROR, written for people or as JSON.
const LOUD: [&str; 4] = [" WARN ", " ERROR ", r#""level":"WARN""#, r#""level":"ERROR""#];

/// Asks a process to end.
pub(super) fn terminate(child: &Child) -> anyhow::Result<()> {
    Ok(kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM)?)
}

/// Its exit code within 25 s; after that it is killed.
pub(super) async fn ended(mut child: Child) -> anyhow::Result<Option<i32>> {
    let status = until("the process ends", Duration::from_secs(25), || {
        let status = child.try_wait();
        async move { Ok(status?) }
    })
    .await;
    if status.is_err() {
        child.kill()?;
    }
    Ok(status?.code())
}

impl Drop for Platform {
    fn drop(&mut self) {
        let running: Vec<Part> = self.children.iter().map(|(part, _)| *part).collect();
        let platform = &*self;
        let wrong = std::thread::scope(|scope| {
            let checked = scope.spawn(|| -> anyhow::Result<Option<String>> {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                runtime.block_on(async {
                    if !running.contains(&Part::Relay) {
                        return Ok(None);
                    }
                    // What was in flight when the test ended.
                    let ended = until("outboxes are drained", Duration::from_secs(20), || async {
                        let wrong = platform.ended().await?;
                        let waits = wrong.as_ref().is_some_and(|wrong| wrong.contains("unpublished"));
                        Ok((!waits).then_some(wrong))
                    });
                    ended.await
                })
            });
            checked.join()
        });
        for (_, child) in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
        let (kafka, prefix) = (self.servers.kafka.clone(), self.prefix.clone());
        let _ = std::thread::spawn(move || -> anyhow::Result<()> {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async { topics::delete(&kafka, &prefix).await })
        })
        .join();
        let failed = std::thread::panicking();
        let wrong = match wrong {
            Ok(Ok(wrong)) => wrong,
            Ok(Err(error)) => Some(format!("the platform could not be checked: {error:#}")),
            Err(_) => Some("the platform could not be checked".into()),
        };
        if !failed {
            let _ = fs::remove_dir_all(&self.folder);
            assert!(wrong.is_none(), "{}", wrong.unwrap_or_default());
        }
    }
}

impl Platform {
    /// What is wrong with how this platform ended, if anything.
    async fn ended(&self) -> anyhow::Result<Option<String>> {
        for (_, database) in self.databases() {
            let pool = database.superuser().await?;
            let unpublished: i64 = sqlx::query_scalar(
                "select count(*) from outbox.event, outbox.cursor where not pg_visible_in_snapshot(xid, snap)",
            )
            .fetch_one(&pool)
            .await?;
            if unpublished > 0 {
                return Ok(Some(format!("{unpublished} events were left unpublished")));
            }
        }
        for part in Part::ALL {
            let log = self.log(part)?;
            let unexpected = log.lines().find(|line| {
                LOUD.iter().any(|level| line.contains(level))
                    && !self.expected.iter().chain(&SLOW).any(|text| line.contains(text))
            });
            if let Some(line) = unexpected {
                return Ok(Some(format!("{} logged: {line}", part.name())));
            }
        }
        Ok(None)
    }
}
