//! Counters, gauges and histograms, by labels.

use std::{fmt, sync::atomic::AtomicU64, time::SystemTime};

use opentelemetry::{Context, TraceId, trace::TraceContextExt as _};
use prometheus_client::{
    encoding::{EncodeLabelSet, LabelSetEncoder},
    metrics::{
        counter,
        exemplar::HistogramWithExemplars,
        family::{Family, MetricConstructor},
        gauge,
    },
    registry::{Metric, Registry, Unit},
};

use super::{Definition, Kind};

/// Label values of one time series. All of a family have the same names.
#[derive(Clone, Debug, Hash, PartialEq, Eq)]
struct Labels<const N: usize> {
    names: [&'static str; N],
    values: [String; N],
}

impl<const N: usize> Labels<N> {
    fn new(names: [&'static str; N], values: [&str; N]) -> Self {
        Self { names, values: values.map(str::to_owned) }
    }
}

impl<const N: usize> EncodeLabelSet for Labels<N> {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        let pairs: [(&str, &str); N] =
            std::array::from_fn(|index| (self.names[index], self.values[index].as_str()));
        pairs.encode(encoder)
    }
}

/// The trace of an observation.
#[derive(Clone, Debug)]
struct Exemplar(TraceId);

impl EncodeLabelSet for Exemplar {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        [("trace_id", self.0.to_string())].encode(encoder)
    }
}

/// Only grows.
#[derive(Clone, Debug)]
pub struct Counter(counter::Counter<u64, AtomicU64>);

impl Counter {
    /// One more.
    pub fn inc(&self) {
        self.0.inc();
    }

    /// So many more.
    pub fn inc_by(&self, more: u64) {
        self.0.inc_by(more);
    }
}

/// A value of now.
#[derive(Clone, Debug)]
pub struct Gauge(gauge::Gauge<f64, AtomicU64>);

impl Gauge {
    /// It is this now.
    pub fn set(&self, value: f64) {
        self.0.set(value);
    }

    /// It is as many now.
    pub fn set_count(&self, count: usize) {
        self.0.set(count as f64);
    }

    /// One more, for as long as what is returned lives.
    pub fn count(&self) -> Counted {
        self.0.inc();
        Counted(self.clone())
    }
}

/// One of what a gauge counts; not any more when it is dropped.
#[derive(Debug)]
pub struct Counted(Gauge);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.0.dec();
    }
}

/// Observations, each with the trace in which it was made, where that is sampled.
#[derive(Clone, Debug)]
pub struct Histogram(HistogramWithExemplars<Exemplar>);

impl Histogram {
    /// In the trace of the current span.
    pub fn observe(&self, value: f64) {
        let context = Context::current();
        let span = context.span();
        let span = span.span_context();
        self.observe_in(value, span.is_sampled().then(|| span.trace_id()));
    }

    /// In this trace, or in none that is sampled.
    pub fn observe_in(&self, value: f64, trace: Option<TraceId>) {
        let now = trace.map(|_| SystemTime::now());
        self.0.observe(value, trace.map(Exemplar), now);
    }
}

#[derive(Clone, Copy, Debug)]
struct Buckets(&'static [f64]);

impl MetricConstructor<HistogramWithExemplars<Exemplar>> for Buckets {
    fn new_metric(&self) -> HistogramWithExemplars<Exemplar> {
        HistogramWithExemplars::new(self.0.iter().copied())
    }
}

macro_rules! family {
    ($(#[$doc:meta])* $family:ident of $one:ident($inner:ty) by $constructor:ty) => {
        $(#[$doc])*
        #[derive(Clone, Debug)]
        pub struct $family<const N: usize> {
            names: [&'static str; N],
            family: Family<Labels<N>, $inner, $constructor>,
        }

        impl<const N: usize> $family<N> {
            /// The one with these label values, in the order of the definition. It is shown from now on. Cheap to keep,
            /// less so to get: a hot path keeps it.
            pub fn with(&self, values: [&str; N]) -> $one {
                $one(self.family.get_or_create_owned(&Labels::new(self.names, values)))
            }

            /// Shows none any more, so that what has gone is not shown for ever.
            pub fn clear(&self) {
                self.family.clear();
            }

            pub(super) fn register(&self, registry: &mut Registry, definition: &Definition<[&'static str; N]>) {
                if N == 0 {
                    // Shown without the braces of an empty set.
                    let only = self.with(self.names.map(|_| ""));
                    register(registry, definition.name, definition.help, only.0);
                } else {
                    register(registry, definition.name, definition.help, self.family.clone());
                }
            }
        }
    };
}

family! {
    /// Counters by labels.
    Counters of Counter(counter::Counter<u64, AtomicU64>) by fn() -> counter::Counter<u64, AtomicU64>
}
family! {
    /// Gauges by labels.
    Gauges of Gauge(gauge::Gauge<f64, AtomicU64>) by fn() -> gauge::Gauge<f64, AtomicU64>
}
family! {
    /// Histograms by labels.
    Histograms of Histogram(HistogramWithExemplars<Exemplar>) by Buckets
}

impl<const N: usize> Counters<N> {
    pub(super) fn new(names: [&'static str; N]) -> Self {
        Self { names, family: Family::default() }
    }
}

impl<const N: usize> Gauges<N> {
    pub(super) fn new(names: [&'static str; N]) -> Self {
        Self { names, family: Family::default() }
    }
}

impl<const N: usize> Histograms<N> {
    pub(super) fn new(definition: &Definition<[&'static str; N]>) -> Self {
        let buckets = match definition.kind {
            Kind::Histogram(buckets) => buckets,
            Kind::Counter | Kind::Gauge => &[],
        };
        Self { names: definition.labels, family: Family::new_with_constructor(Buckets(buckets)) }
    }
}

/// Registers a metric under the name as which it is scraped: the registry adds unit and `_total` by itself.
fn register(registry: &mut Registry, name: &str, help: &str, metric: impl Metric) {
    let (stem, unit) = split_name(name);
    match unit {
        Some(unit) => registry.register_with_unit(stem, help, unit, metric),
        None => registry.register(stem, help, metric),
    }
}

/// The stem of a scraped name, and its unit.
pub(super) fn split_name(name: &str) -> (&str, Option<Unit>) {
    let name = name.strip_suffix("_total").unwrap_or(name);
    if let Some(stem) = name.strip_suffix("_seconds") {
        return (stem, Some(Unit::Seconds));
    }
    match name.strip_suffix("_bytes") {
        Some(stem) => (stem, Some(Unit::Bytes)),
        None => (name, None),
    }
}
