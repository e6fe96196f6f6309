//! What happened so far, shared by every call of a run.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use hdrhistogram::Histogram;
use tonic::Code;

use super::hops::Sample;

/// Longest latency told apart, in microseconds; longer ones count as this.
const LONGEST: u64 = 3_600_000_000;

/// Counts and latencies of a run.
#[derive(Debug)]
pub(super) struct Tally(Mutex<Counts>);

#[derive(Clone, Debug)]
pub(super) struct Counts {
    /// Orders whose time had come.
    pub(super) offered: u64,
    /// Of these, how many had to wait because too many were unanswered.
    pub(super) delayed: u64,
    pub(super) accepted: u64,
    /// Refused for good.
    pub(super) rejected: u64,
    /// Without an answer within the time.
    pub(super) gave_up: u64,
    /// Acknowledged, but not written down.
    pub(super) unrecorded: u64,
    /// Cancels that were asked for.
    pub(super) cancels: u64,
    pub(super) cancels_accepted: u64,
    /// The order could not be cancelled any more.
    pub(super) cancels_too_late: u64,
    /// Failed calls, by code; repeated ones count each time.
    pub(super) errors: BTreeMap<&'static str, u64>,
    /// From the intended start to the acknowledgement, in microseconds.
    pub(super) accept: Histogram<u64>,
    /// From the start of the run to the last acknowledgement.
    pub(super) last_accepted: Duration,
    /// Orders by final status.
    pub(super) finals: BTreeMap<String, u64>,
    /// From the intended start to the final status, in microseconds.
    pub(super) settle: Histogram<u64>,
    /// The same for confirmed orders, to their confirmation.
    pub(super) confirm: Histogram<u64>,
    pub(super) confirmed: Sample,
    /// From the start of the run to the last confirmation.
    pub(super) last_confirmed: Duration,
}

impl Tally {
    pub(super) fn new() -> anyhow::Result<Self> {
        let histogram = histogram()?;
        Ok(Self(Mutex::new(Counts {
            offered: 0,
            delayed: 0,
            accepted: 0,
            rejected: 0,
            gave_up: 0,
            unrecorded: 0,
            cancels: 0,
            cancels_accepted: 0,
            cancels_too_late: 0,
            errors: BTreeMap::new(),
            accept: histogram.clone(),
            last_accepted: Duration::ZERO,
            finals: BTreeMap::new(),
            settle: histogram.clone(),
            confirm: histogram,
            confirmed: Sample::default(),
            last_confirmed: Duration::ZERO,
        })))
    }

    pub(super) fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counts {
    /// One line for somebody who waits.
    pub(super) fn progress(&self, elapsed: Duration) -> String {
        let unanswered = self.offered - self.accepted - self.rejected - self.gave_up;
        let finals: u64 = self.finals.values().sum();
        format!(
            "{:>4}s  offered {}  accepted {}  unanswered {unanswered}  final {finals}  failed calls {}  accept p99 {:.1} ms",
            elapsed.as_secs(),
            self.offered,
            self.accepted,
            self.errors.values().sum::<u64>(),
            millis(self.accept.value_at_quantile(0.99)),
        )
    }
}

/// An empty one, for microseconds.
pub(super) fn histogram() -> anyhow::Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1, LONGEST, 3)?)
}

/// Records a latency; one beyond [`LONGEST`] counts as that.
pub(super) fn record(histogram: &mut Histogram<u64>, latency: Duration) {
    histogram.saturating_record(u64::try_from(latency.as_micros()).unwrap_or(LONGEST).max(1));
}

/// Microseconds of a histogram as milliseconds. Divided once, so that 4571 becomes 4.571 and not 4.571000000000001.
pub(super) fn millis(micros: u64) -> f64 {
    micros as f64 / 1e3
}

/// The name of a code as in the gRPC specification.
pub(super) fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
