//! Processes as the kernel shows them: identity that survives pid reuse, memory, processor time.

use std::{collections::BTreeMap, fs, time::Duration};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde::{Deserialize, Serialize};

/// Ticks a second of the times in `/proc/<pid>/stat`: `USER_HZ`, the same on every Linux (proc(5)).
const USER_HZ: u64 = 100;

/// A process: its pid and the tick at which it started, so that a reused pid is not mistaken for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The process id.
    pub pid: u32,
    /// Ticks from boot to its start.
    pub start_time: u64,
}

/// What a process and its descendants use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Resident bytes of the process, and the private ones of its descendants (so that memory they share counts once).
    pub rss_bytes: u64,
    /// Processor time of all of them, dead children included.
    pub cpu: Duration,
}

impl Identity {
    /// The process that has this pid now; `None` when there is none, or only a zombie.
    #[must_use]
    pub fn of(pid: u32) -> Option<Self> {
        let stat = Stat::read(pid)?;
        (stat.state != 'Z').then_some(Self { pid, start_time: stat.start_time })
    }

    /// This process.
    #[must_use]
    pub fn current() -> Option<Self> {
        Self::of(std::process::id())
    }

    /// Whether the process still runs.
    #[must_use]
    pub fn is_alive(self) -> bool {
        Self::of(self.pid) == Some(self)
    }

    /// How long it has been running.
    #[must_use]
    pub fn uptime(self) -> Option<Duration> {
        let text = fs::read_to_string("/proc/uptime").ok()?;
        let since_boot = text.split_whitespace().next()?.parse::<f64>().ok()?;
        Duration::try_from_secs_f64(since_boot).ok()?.checked_sub(ticks(self.start_time))
    }

    /// Sends a signal, unless the process is gone.
    pub fn signal(self, signal: Signal) {
        if self.is_alive() {
            send(self.pid, signal, false);
        }
    }

    /// Sends a signal to the process and the group it leads.
    pub fn signal_group(self, signal: Signal) {
        if self.is_alive() {
            send(self.pid, signal, true);
            send(self.pid, signal, false);
        }
    }

    /// What the process and its descendants use; `None` when it is gone.
    #[must_use]
    pub fn usage(self) -> Option<Usage> {
        if !self.is_alive() {
            return None;
        }
        let children = children_by_parent();
        let mut usage = Usage { rss_bytes: memory(self.pid, &["VmRSS:"]), cpu: Stat::read(self.pid)?.cpu };
        let mut pending = children.get(&self.pid).cloned().unwrap_or_default();
        while let Some(pid) = pending.pop() {
            usage.rss_bytes += memory(pid, &["RssAnon:"]);
            usage.cpu += Stat::read(pid).map(|stat| stat.cpu).unwrap_or_default();
            pending.extend(children.get(&pid).into_iter().flatten());
        }
        Some(usage)
    }
}

struct Stat {
    state: char,
    parent: u32,
    cpu: Duration,
    start_time: u64,
}

impl Stat {
    fn read(pid: u32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// The command name, field 2, is in parentheses and may itself hold spaces and parentheses.
    fn parse(line: &str) -> Option<Self> {
        let fields: Vec<&str> = line.rsplit_once(')')?.1.split_whitespace().collect();
        let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
        Some(Self {
            state: fields.first()?.chars().next()?,
            parent: u32::try_from(number(4)?).ok()?,
            cpu: ticks((14..=17).filter_map(number).sum()),
            start_time: number(22)?,
        })
    }
}

fn ticks(count: u64) -> Duration {
    Duration::from_millis(count * 1000 / USER_HZ)
}

fn send(pid: u32, signal: Signal, group: bool) {
    if let Ok(pid) = i32::try_from(pid) {
        // It may have ended since it was looked at.
        let _ = kill(Pid::from_raw(if group { -pid } else { pid }), signal);
    }
}

fn memory(pid: u32, fields: &[&str]) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let kilobytes = |line: &str| {
        let (name, rest) = line.split_once(char::is_whitespace)?;
        fields.contains(&name).then(|| rest.split_whitespace().next()?.parse::<u64>().ok()).flatten()
    };
    text.lines().filter_map(kilobytes).sum::<u64>() * 1024
}

fn children_by_parent() -> BTreeMap<u32, Vec<u32>> {
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let pid = entry.file_name().to_str().and_then(|name| name.parse().ok());
        if let Some((pid, stat)) = pid.and_then(|pid| Some((pid, Stat::read(pid)?))) {
            children.entry(stat.parent).or_default().push(pid);
        }
    }
    children
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_line_with_a_hostile_name_is_read() {
        let line = "7 (a) b (c) S 3 7 7 0 -1 4194560 1 0 0 0 150 50 25 25 20 0 1 0 4711 1 1";
        let stat = Stat::parse(line).expect("the line is complete");
        assert_eq!((stat.state, stat.parent, stat.start_time), ('S', 3, 4711));
        assert_eq!(stat.cpu, Duration::from_millis(2500));
    }

    #[test]
    fn this_process_lives_and_its_impostor_does_not() {
        let me = Identity::current().expect("/proc is mounted");
        assert!(me.is_alive() && me.usage().is_some_and(|usage| usage.rss_bytes > 0));
        assert!(!Identity { start_time: me.start_time + 1, ..me }.is_alive());
    }
}
