//! What the processes of the platform cost during a run.

use serde::Serialize;

use crate::platform::{
    DataDir,
    process::{Identity, Usage},
    record::UpRecord,
};

/// What one process and its descendants cost.
#[derive(Clone, Debug, Serialize)]
pub struct Cost {
    /// As in `orderly status`.
    pub name: String,
    /// Its id at the start.
    pub pid: u32,
    /// User and system time during the run; unknown when the process ended before the run did.
    pub cpu_seconds: Option<f64>,
    /// Resident memory before the run.
    pub rss_before_bytes: u64,
    /// Resident memory after the run.
    pub rss_after_bytes: Option<u64>,
}

/// The processes of `up.json` at the start of a run.
#[derive(Debug)]
pub(super) struct Before(Vec<(String, Identity, Usage)>);

impl Before {
    /// Empty where no `orderly up` runs on this machine.
    pub(super) fn take(data_dir: &DataDir) -> anyhow::Result<Self> {
        let processes = UpRecord::read(data_dir)?.map(|record| record.processes).unwrap_or_default();
        let running = processes.into_iter().filter_map(|process| {
            let identity = process.identity?;
            Some((process.name, identity, identity.usage()?))
        });
        Ok(Self(running.collect()))
    }

    /// What each has cost since.
    pub(super) fn until_now(&self) -> Vec<Cost> {
        let cost = |(name, identity, before): &(String, Identity, Usage)| {
            let after = identity.usage();
            Cost {
                name: name.clone(),
                pid: identity.pid,
                cpu_seconds: after.map(|after| after.cpu.saturating_sub(before.cpu).as_secs_f64()),
                rss_before_bytes: before.rss_bytes,
                rss_after_bytes: after.map(|after| after.rss_bytes),
            }
        };
        self.0.iter().map(cost).collect()
    }
}
