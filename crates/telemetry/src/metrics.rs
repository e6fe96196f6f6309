//! One registry a process, in the two formats that Prometheus reads. What can be registered is in the catalogue.

mod instruments;
mod process;
mod text_format;

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use prometheus_client::{encoding::text::encode, registry::Registry};

pub use instruments::{Counted, Counter, Counters, Gauge, Gauges, Histogram, Histograms};

use crate::catalogue;

/// One metric of the catalogue; `L` are the names of its labels.
#[derive(Clone, Copy, Debug)]
pub struct Definition<L> {
    /// As it is scraped, with unit and `_total`; of a histogram without `_bucket`.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// In the order in which values are given.
    pub labels: L,
    /// What it says, without a full stop.
    pub help: &'static str,
}

/// The type of a metric.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// Only grows; 0 when the process starts.
    Counter,
    /// A value of now.
    Gauge,
    /// Observations by upper bounds.
    Histogram(&'static [f64]),
}

/// The process's metrics; clones share one registry. Registering a metric twice is a bug, and shows in `/metrics`.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    registry: Arc<Mutex<Registry>>,
    refreshes: Arc<Mutex<Vec<Refresh>>>,
}

/// Sets metrics to what is so when they are asked for.
#[derive(Clone)]
struct Refresh(Arc<dyn Fn() + Send + Sync>);

impl fmt::Debug for Refresh {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Refresh")
    }
}

impl Metrics {
    /// An empty registry.
    pub fn new() -> Self {
        Self::default()
    }

    /// A counter without labels, 0 from the start.
    pub fn counter(&self, definition: &Definition<[&'static str; 0]>) -> Counter {
        self.counters(definition).with([])
    }

    /// A gauge without labels, 0 from the start.
    pub fn gauge(&self, definition: &Definition<[&'static str; 0]>) -> Gauge {
        self.gauges(definition).with([])
    }

    /// Counters by labels.
    pub fn counters<const N: usize>(&self, definition: &Definition<[&'static str; N]>) -> Counters<N> {
        let counters = Counters::new(definition.labels);
        self.with(|registry| counters.register(registry, definition));
        counters
    }

    /// Gauges by labels.
    pub fn gauges<const N: usize>(&self, definition: &Definition<[&'static str; N]>) -> Gauges<N> {
        let gauges = Gauges::new(definition.labels);
        self.with(|registry| gauges.register(registry, definition));
        gauges
    }

    /// Histograms by labels.
    pub fn histograms<const N: usize>(&self, definition: &Definition<[&'static str; N]>) -> Histograms<N> {
        let histograms = Histograms::new(definition);
        self.with(|registry| histograms.register(registry, definition));
        histograms
    }

    /// Adds what every process has: what it is, and what it and its runtime use. Once a process, in a tokio runtime.
    pub fn describe(&self, name: &'static str, version: &'static str) {
        self.gauges(&catalogue::process::BUILD).with([name, version]).set(1.0);
        self.with(process::register);
    }

    /// Runs this before each scrape, to set gauges of what is cheap to ask and nobody tells. It must not block.
    pub fn on_scrape(&self, refresh: impl Fn() + Send + Sync + 'static) {
        self.refreshes.lock().unwrap_or_else(PoisonError::into_inner).push(Refresh(Arc::new(refresh)));
    }

    /// OpenMetrics 1.0 text, with exemplars.
    pub fn openmetrics(&self) -> String {
        // Not under the lock: a refresh may register something.
        let refreshes = self.refreshes.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for Refresh(refresh) in refreshes {
            refresh();
        }
        let mut text = String::new();
        // Writing to a string cannot fail; a metric that encodes itself wrongly would cut the text.
        let _ = self.with(|registry| encode(&mut text, registry));
        text
    }

    /// Prometheus text format 0.0.4.
    pub fn text(&self) -> String {
        text_format::from_openmetrics(&self.openmetrics())
    }

    fn with<T>(&self, work: impl FnOnce(&mut Registry) -> T) -> T {
        work(&mut self.registry.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_process_says_what_it_is_and_uses() {
        let metrics = Metrics::new();
        metrics.describe("billing", "1.2.3");
        let text = metrics.text();
        assert!(text.contains("orderly_build_info{service=\"billing\",version=\"1.2.3\"} 1.0\n"), "{text}");
        for metric in catalogue::ALL.iter().find(|section| section.title == "Process and runtime").into_iter()
        {
            for metric in metric.metrics {
                assert!(text.contains(&format!("\n{}", metric.name)), "{} is missing: {text}", metric.name);
            }
        }
    }

    #[test]
    fn a_scrape_shows_what_is_so_when_it_comes() {
        let (metrics, now) = (Metrics::new(), Arc::new(Mutex::new(1.0)));
        let (gauge, asked) = (metrics.gauge(&catalogue::order::WATCHERS), Arc::clone(&now));
        metrics.on_scrape(move || gauge.set(*asked.lock().expect("no panic")));
        assert!(metrics.text().contains("\norder_watchers 1.0\n"));
        *now.lock().expect("no panic") = 2.0;
        assert!(metrics.openmetrics().contains("\norder_watchers 2.0\n"));
    }

    #[test]
    fn counters_are_typed_by_the_name_of_their_samples() {
        let metrics = Metrics::new();
        metrics.counters(&catalogue::consumer::RECORDS).with(["billing", "payment-requests"]).inc_by(3);
        metrics.gauge(&catalogue::order::OVERDUE).set(7.0);
        let text = metrics.text();
        assert!(text.contains("# TYPE consumer_records_total counter\n"), "{text}");
        assert!(
            text.contains("\nconsumer_records_total{group=\"billing\",topic=\"payment-requests\"} 3\n"),
            "{text}"
        );
        assert!(text.contains("\norder_overdue 7.0\n"), "{text}");
        assert!(metrics.openmetrics().ends_with("# EOF\n"));
    }
}
