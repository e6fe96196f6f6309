//! Workers of a service beside the one that serves its calls too.

use std::process::Child;

use super::probe::{READY, readyz};
use crate::until;

/// One more worker of a service. Dropping it kills it.
#[derive(Debug)]
pub struct Worker {
    pub(super) child: Child,
    pub(super) admin: String,
}

impl Worker {
    /// Waits until it consumes.
    ///
    /// # Errors
    /// When it does not.
    pub async fn ready(&self) -> anyhow::Result<()> {
        until("a worker is ready", READY, || async {
            Ok(readyz(&self.admin).await?.filter(|answer| answer.starts_with("200")).map(drop))
        })
        .await
    }

    /// `kill -9`.
    ///
    /// # Errors
    /// When it has ended by itself.
    pub fn kill(mut self) -> anyhow::Result<()> {
        anyhow::ensure!(self.child.try_wait()?.is_none(), "the worker has ended by itself");
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
