//! What dispatchers count. Names and meanings are in [`telemetry::catalogue::dispatch`].

use std::time::Instant;

use telemetry::{
    Counted, Counter, Counters, Gauge, Gauges, Histogram, Histograms, TraceId, catalogue::dispatch::*,
};

use super::Performed;

/// The metrics of a process's dispatchers, cheap to clone.
#[derive(Clone, Debug)]
pub struct Metrics {
    calls: Counters<2>,
    seconds: Histograms<1>,
    active: Gauges<1>,
    breaker_open: Gauges<1>,
}

impl Metrics {
    /// Registers them; once per process, however many dispatchers it has.
    pub fn register(metrics: &telemetry::Metrics) -> Self {
        Self {
            calls: metrics.counters(&CALLS),
            seconds: metrics.histograms(&CALL_DURATION),
            active: metrics.gauges(&CALLS_ACTIVE),
            breaker_open: metrics.gauges(&BREAKER_OPEN),
        }
    }

    /// Those of one dispatcher, all there from the start.
    pub(super) fn of(&self, dispatcher: &'static str) -> Meter {
        let calls = |outcome| self.calls.with([dispatcher, outcome]);
        Meter {
            answered: calls("answered"),
            unavailable: calls("unavailable"),
            unasked: calls("unasked"),
            failed: calls("failed"),
            seconds: self.seconds.with([dispatcher]),
            active: self.active.with([dispatcher]),
            breaker_open: self.breaker_open.with([dispatcher]),
        }
    }
}

/// The metrics of one dispatcher.
pub(super) struct Meter {
    answered: Counter,
    unavailable: Counter,
    unasked: Counter,
    failed: Counter,
    seconds: Histogram,
    active: Gauge,
    breaker_open: Gauge,
}

/// A call on its way, until it is dropped: then it is over, also where it panicked.
pub(super) struct Measured {
    begun: Instant,
    trace: Option<TraceId>,
    seconds: Histogram,
    _active: Counted,
}

impl Meter {
    /// A call begins, in this trace where that is sampled.
    pub fn begin(&self, trace: Option<TraceId>) -> Measured {
        let (begun, seconds) = (Instant::now(), self.seconds.clone());
        Measured { begun, trace, seconds, _active: self.active.count() }
    }

    /// A call has ended; without what it told where its outcome could not be written.
    pub fn ended(&self, performed: Option<Performed>) {
        let outcome = match performed {
            Some(Performed::Answered) => &self.answered,
            Some(Performed::Unavailable) => &self.unavailable,
            Some(Performed::Unasked) => &self.unasked,
            None => &self.failed,
        };
        outcome.inc();
    }

    pub fn set_breaker(&self, open: bool) {
        self.breaker_open.set(if open { 1.0 } else { 0.0 });
    }
}

impl Drop for Measured {
    fn drop(&mut self) {
        self.seconds.observe_in(self.begun.elapsed().as_secs_f64(), self.trace);
    }
}
