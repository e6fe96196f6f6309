//! What processes cost, as the kernel counts it.

use std::{fs, time::Duration};

use serde::Serialize;
use tokio::time::Instant;

use super::servers::Servers;
use crate::platform::process::Identity;

/// Ticks a second in /proc (proc(5)).
const USER_HZ: u64 = 100;

/// Reads what a publisher and the servers have cost so far.
#[derive(Clone, Copy, Debug)]
pub(super) struct Meter {
    publisher: Option<Identity>,
    postgres: Identity,
    kafka: Identity,
}

/// Processor time so far.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    at: Instant,
    publisher: Option<Duration>,
    postgres: Duration,
    kafka: Duration,
    own: Duration,
    machine: Duration,
}

/// Processor time between two readings, in seconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Spent {
    /// By the clock.
    pub(super) seconds: f64,
    /// By the publisher; unknown when it has ended.
    pub(super) publisher: Option<f64>,
    /// By PostgreSQL, the writers' sessions included.
    pub(super) postgres: f64,
    pub(super) kafka: f64,
    /// By the rest of the machine, this process (writers, consumer) not included: the disturbance.
    pub(super) others: f64,
}

impl Meter {
    pub(super) fn new(servers: &Servers, publisher: Option<Identity>) -> anyhow::Result<Self> {
        let (postgres, kafka) = servers.processes()?;
        Ok(Self { publisher, postgres, kafka })
    }

    /// The publisher's process.
    pub(super) fn publisher(&self) -> Option<Identity> {
        self.publisher
    }

    pub(super) fn read(&self) -> Reading {
        let cpu = |process: Identity| process.usage().map(|usage| usage.cpu);
        // Of this process alone: its children are the others.
        let own = fs::read_to_string("/proc/self/stat").ok().and_then(|stat| own_cpu(&stat));
        Reading {
            at: Instant::now(),
            publisher: self.publisher.and_then(cpu),
            postgres: cpu(self.postgres).unwrap_or_default(),
            kafka: cpu(self.kafka).unwrap_or_default(),
            own: own.unwrap_or_default(),
            machine: fs::read_to_string("/proc/stat").ok().and_then(|stat| busy(&stat)).unwrap_or_default(),
        }
    }
}

impl Reading {
    pub(super) fn until(self, later: Self) -> Spent {
        let between = |before: Duration, after: Duration| after.saturating_sub(before).as_secs_f64();
        let publisher = self.publisher.zip(later.publisher).map(|(before, after)| between(before, after));
        let (postgres, kafka) = (between(self.postgres, later.postgres), between(self.kafka, later.kafka));
        let ours = publisher.unwrap_or_default() + postgres + kafka + between(self.own, later.own);
        Spent {
            seconds: later.at.duration_since(self.at).as_secs_f64(),
            publisher,
            postgres,
            kafka,
            others: (between(self.machine, later.machine) - ours).max(0.0),
        }
    }

    /// The publisher's processor time since it was started.
    pub(super) fn publisher(self) -> Option<f64> {
        self.publisher.map(|cpu| cpu.as_secs_f64())
    }
}

impl Spent {
    /// As cores in use.
    pub(super) fn cores(self) -> Self {
        self.times(1.0 / self.seconds.max(0.001))
    }

    /// As seconds for each 100,000 events; `None` when there were none.
    pub(super) fn per_100k(self, events: u64) -> Option<Self> {
        (events > 0).then(|| self.times(100_000.0 / events as f64))
    }

    fn times(self, factor: f64) -> Self {
        Self {
            seconds: self.seconds,
            publisher: self.publisher.map(|publisher| publisher * factor),
            postgres: self.postgres * factor,
            kafka: self.kafka * factor,
            others: self.others * factor,
        }
    }
}

/// The most memory that a process has had resident, in bytes.
pub(super) fn peak_rss(process: Identity) -> Option<u64> {
    let status =
        process.is_alive().then(|| fs::read_to_string(format!("/proc/{}/status", process.pid)).ok())??;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

/// User and system time of a line of /proc/<pid>/stat.
fn own_cpu(stat: &str) -> Option<Duration> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    Some(ticks(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?))
}

/// All that is not idle, of the first line of /proc/stat: user, nice, system, (idle, iowait,) irq, softirq, steal.
fn busy(stat: &str) -> Option<Duration> {
    let fields: Option<Vec<u64>> =
        stat.lines().next()?.split_whitespace().skip(1).take(8).map(|field| field.parse().ok()).collect();
    let fields = fields?;
    let idle = fields.get(3)? + fields.get(4)?;
    Some(ticks(fields.iter().sum::<u64>() - idle))
}

fn ticks(count: u64) -> Duration {
    Duration::from_millis(count * 1000 / USER_HZ)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_lines_are_read() {
        let stat = "7 (a) b (c) S 3 7 7 0 -1 4194560 1 0 0 0 150 50 25 25 20 0 1 0 4711 1 1";
        assert_eq!(own_cpu(stat), Some(Duration::from_secs(2)));
        let machine = "cpu  100 10 50 9000 500 1 2 37 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n";
        assert_eq!(busy(machine), Some(Duration::from_secs(2)));
        assert_eq!(busy("cpu x"), None);
    }

    #[test]
    fn costs_are_scaled_and_the_unknown_stays_unknown() {
        let spent = Spent { seconds: 4.0, publisher: None, postgres: 2.0, kafka: 1.0, others: 0.0 };
        assert_eq!(spent.cores().postgres, 0.5);
        assert_eq!(spent.per_100k(50_000).map(|spent| spent.kafka), Some(2.0));
        assert_eq!(spent.cores().publisher, None);
        assert!(spent.per_100k(0).is_none());
    }
}
