//! What the process and its tokio runtime use, asked when it is scraped.

use std::fmt;

use metrics_process::collector;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Registry,
};
use tokio::runtime::Handle;

use super::{Definition, Kind, instruments::split_name};
use crate::{catalogue::process::*, subscriber};

pub(super) fn register(registry: &mut Registry) {
    registry.register_collector(Box::new(Process(Handle::try_current().ok())));
}

/// Of the process, and of this runtime.
#[derive(Debug)]
struct Process(Option<Handle>);

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let process = collector::collect();
        let count = |count: Option<u64>| count.map(|count| count as f64);
        show(&mut encoder, &START_TIME, count(process.start_time_seconds))?;
        show(&mut encoder, &CPU, process.cpu_seconds_total)?;
        show(&mut encoder, &RESIDENT_MEMORY, count(process.resident_memory_bytes))?;
        show(&mut encoder, &VIRTUAL_MEMORY, count(process.virtual_memory_bytes))?;
        show(&mut encoder, &OPEN_FILES, count(process.open_fds))?;
        show(&mut encoder, &MAX_FILES, count(process.max_fds))?;
        show(&mut encoder, &THREADS, count(process.threads))?;
        show(&mut encoder, &LOG_LINES_DROPPED, Some(subscriber::dropped_lines() as f64))?;
        let Some(runtime) = self.0.as_ref().map(Handle::metrics) else { return Ok(()) };
        let workers = runtime.num_workers();
        let busy = (0..workers).map(|worker| runtime.worker_total_busy_duration(worker).as_secs_f64()).sum();
        show(&mut encoder, &WORKERS, Some(workers as f64))?;
        show(&mut encoder, &BUSY, Some(busy))?;
        show(&mut encoder, &TASKS, Some(runtime.num_alive_tasks() as f64))?;
        show(&mut encoder, &QUEUE, Some(runtime.global_queue_depth() as f64))
    }
}

fn show(
    encoder: &mut DescriptorEncoder<'_>,
    definition: &Definition<[&'static str; 0]>,
    value: Option<f64>,
) -> fmt::Result {
    // What this system does not tell is not shown.
    let Some(value) = value else { return Ok(()) };
    let (stem, unit) = split_name(definition.name);
    let help = format!("{}.", definition.help);
    match definition.kind {
        Kind::Counter => {
            let metric = encoder.encode_descriptor(stem, &help, unit.as_ref(), MetricType::Counter)?;
            ConstCounter::new(value).encode(metric)
        }
        Kind::Gauge | Kind::Histogram(_) => {
            let metric = encoder.encode_descriptor(stem, &help, unit.as_ref(), MetricType::Gauge)?;
            ConstGauge::new(value).encode(metric)
        }
    }
}
