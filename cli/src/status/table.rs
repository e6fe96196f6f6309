//! The report as a table for people: aligned, and `—` for what is not known.

use super::{Process, Report};
use crate::platform::record::Phase;

const UNKNOWN: &str = "—";
const HEADER: [&str; 9] =
    ["PROCESS", "READY", "STATE", "PID", "UPTIME", "RESTARTS", "CPU", "MEMORY", "ADDRESS"];
/// PID to MEMORY are numbers: aligned to the right.
const RIGHT: std::ops::RangeInclusive<usize> = 3..=7;

pub(super) fn render(report: &Report) -> String {
    let mut rows = vec![HEADER.map(str::to_owned)];
    rows.extend(report.processes.iter().map(row));
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; 9] = std::array::from_fn(width);
    let mut lines = vec![verdict(report), String::new()];
    for row in &rows {
        let cells = row.iter().zip(widths).enumerate().map(|(column, (cell, width))| {
            if RIGHT.contains(&column) { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
        });
        lines.push(cells.collect::<Vec<_>>().join("  ").trim_end().to_owned());
    }
    let ended: Vec<String> = report
        .processes
        .iter()
        .filter(|process| process.state != "stopped")
        .filter_map(|process| Some(format!("  {}: {}", process.name, process.last_exit.as_ref()?)))
        .collect();
    if !ended.is_empty() {
        lines.extend([String::new(), "last ends:".to_owned()]);
        lines.extend(ended);
    }
    lines.extend([String::new(), format!("data      {}", report.data_dir.display())]);
    for (name, path) in &report.directories {
        lines.push(format!("{name:<9} {}", path.display()));
    }
    lines.join("\n")
}

fn verdict(report: &Report) -> String {
    let not_ready: Vec<&str> = report
        .processes
        .iter()
        .filter(|process| !process.ready)
        .map(|process| process.name.as_str())
        .collect();
    match (report.supervisor_pid, report.phase) {
        (_, Phase::Stopped) => "stopped; start it with `make up`".to_owned(),
        (None, _) => {
            "the supervisor is gone: nothing is restarted any more; run `make down` or `make up`".to_owned()
        }
        (Some(pid), Phase::Starting) => format!("starting (supervisor pid {pid})"),
        (Some(pid), Phase::Stopping) => format!("stopping (supervisor pid {pid})"),
        (Some(pid), Phase::Ready) if report.ready => format!("ready (supervisor pid {pid})"),
        (Some(pid), Phase::Ready) => format!("not ready: {} (supervisor pid {pid})", not_ready.join(", ")),
    }
}

fn row(process: &Process) -> [String; 9] {
    let known = |value: Option<String>| value.unwrap_or_else(|| UNKNOWN.to_owned());
    [
        process.name.clone(),
        if process.ready { "yes" } else { "no" }.to_owned(),
        process.state.to_owned(),
        known(process.pid.map(|pid| pid.to_string())),
        known(process.uptime_seconds.map(duration)),
        process.restarts.to_string(),
        known(process.cpu_seconds.map(|seconds| format!("{seconds:.1} s"))),
        known(process.rss_bytes.map(|bytes| format!("{} MiB", bytes >> 20))),
        process.address.clone(),
    ]
}

fn duration(seconds: f64) -> String {
    // Whole seconds are all that is shown.
    let seconds = std::time::Duration::try_from_secs_f64(seconds).unwrap_or_default().as_secs();
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m {:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h {:02}m", seconds / 3600, seconds / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_aligned_and_unknown_is_a_dash() {
        let running = Process {
            name: "order".to_owned(),
            state: "running",
            ready: true,
            pid: Some(4711),
            restarts: 2,
            last_exit: Some("signal 9 (SIGKILL)".to_owned()),
            uptime_seconds: Some(3725.9),
            rss_bytes: Some(30 << 20),
            cpu_seconds: Some(12.34),
            address: "127.0.0.1:50051".to_owned(),
            log: "logs/order.log".into(),
        };
        let waiting = Process {
            name: "outbox-relay".to_owned(),
            state: "backoff",
            ready: false,
            pid: None,
            restarts: 11,
            last_exit: None,
            uptime_seconds: None,
            rss_bytes: None,
            cpu_seconds: None,
            address: "127.0.0.1:9106".to_owned(),
            log: "logs/outbox-relay.log".into(),
        };
        let report = Report {
            ready: false,
            phase: Phase::Ready,
            supervisor_pid: Some(7),
            data_dir: "/data".into(),
            directories: [("postgres".to_owned(), "/var/lib/orderly/1".into())].into(),
            processes: vec![running, waiting],
        };
        insta::assert_snapshot!(render(&report), @r#"
        not ready: outbox-relay (supervisor pid 7)

        PROCESS       READY  STATE     PID  UPTIME  RESTARTS     CPU  MEMORY  ADDRESS
        order         yes    running  4711  1h 02m         2  12.3 s  30 MiB  127.0.0.1:50051
        outbox-relay  no     backoff     —       —        11       —       —  127.0.0.1:9106

        last ends:
          order: signal 9 (SIGKILL)

        data      /data
        postgres  /var/lib/orderly/1
        "#);
    }
}
