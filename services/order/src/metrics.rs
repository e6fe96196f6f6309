//! What the order service shows of its orders. Names and meanings are in [`telemetry::catalogue::order`].
//!
//! A transaction can be rolled back and run again. So what happens in one is gathered as [`Happened`] and counted by
//! whoever has seen it committed. Where the outcome of a commit is unknown nothing is counted: it is better to miss one
//! then than to count it twice.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use telemetry::{Counters, Gauge, Gauges, Histograms, TraceId, catalogue::order as catalogue};
use time::OffsetDateTime;

use crate::{
    domain::{Event, Money, Order, Reason, Status, Wait},
    store::Open,
};

const STATUSES: [Status; 8] = [
    Status::Pending,
    Status::StockReserved,
    Status::Paid,
    Status::Confirmed,
    Status::Compensating,
    Status::Rejected,
    Status::Cancelled,
    Status::NeedsAttention,
];
/// Those in which something is still to come.
const OPEN: [Status; 5] =
    [Status::Pending, Status::StockReserved, Status::Paid, Status::Compensating, Status::NeedsAttention];
const DECISIONS: [Status; 3] = [Status::Confirmed, Status::Rejected, Status::Cancelled];
/// Why an order can end REJECTED.
const REJECTIONS: [Reason; 7] = [
    Reason::OutOfStock,
    Reason::NotSold,
    Reason::StockExpired,
    Reason::PaymentDeclined,
    Reason::InsufficientFunds,
    Reason::PaymentExpired,
    Reason::CompensationOverdue,
];
const WAITS: [Wait; 4] = [Wait::Stock, Wait::Payment, Wait::Shipment, Wait::Compensation];

/// The metrics of one process; clones share them.
#[derive(Clone, Debug)]
pub struct Metrics {
    transitions: Counters<1>,
    rejections: Counters<1>,
    decisions: Histograms<1>,
    confirmed: Counters<1>,
    deadlines_passed: Counters<1>,
    open: Gauges<1>,
    oldest_open: Gauges<1>,
    overdue: Gauge,
    /// Up to when everything is known to have arrived; nothing while nothing is due.
    horizon: Arc<Mutex<Option<OffsetDateTime>>>,
    /// Open `WatchOrder` streams.
    pub watchers: Gauge,
}

/// An order has come into a status.
#[derive(Clone, Debug)]
pub struct Happened {
    status: Status,
    /// Where this rejects it.
    rejected: Option<Reason>,
    /// Where this confirms it.
    confirmed: Option<Money>,
    /// Where this decides it: how long that took.
    decided_after: Option<Duration>,
    trace: Option<TraceId>,
}

impl Happened {
    /// What an event does to an order, in the trace of the current span; nothing where its status stays.
    pub fn by(
        event: &Event,
        before: Option<&Order>,
        after: &Order,
        placed_at: OffsetDateTime,
        at: OffsetDateTime,
    ) -> Option<Self> {
        if before.is_some_and(|before| before.status == after.status) {
            return None;
        }
        let rejected = match event {
            Event::OrderRejected { reason } => Some(*reason),
            _ => None,
        };
        let confirmed = matches!(event, Event::OrderConfirmed {}).then(|| after.total.clone());
        let is_decision = confirmed.is_some() || matches!(after.status, Status::Rejected | Status::Cancelled);
        let span = telemetry::propagation::current();
        Some(Self {
            status: after.status,
            rejected,
            confirmed,
            // Clocks of two machines may differ.
            decided_after: is_decision.then(|| Duration::try_from(at - placed_at).unwrap_or_default()),
            trace: span.is_sampled().then(|| span.trace_id()),
        })
    }
}

impl Metrics {
    /// Registers them, with every label that is known; once a process.
    pub fn register(metrics: &telemetry::Metrics) -> Self {
        let registered = Self {
            transitions: metrics.counters(&catalogue::TRANSITIONS),
            rejections: metrics.counters(&catalogue::REJECTIONS),
            decisions: metrics.histograms(&catalogue::DECISION_DURATION),
            confirmed: metrics.counters(&catalogue::CONFIRMED_AMOUNT),
            deadlines_passed: metrics.counters(&catalogue::DEADLINES_PASSED),
            open: metrics.gauges(&catalogue::OPEN),
            oldest_open: metrics.gauges(&catalogue::OLDEST_OPEN),
            overdue: metrics.gauge(&catalogue::OVERDUE),
            horizon: Arc::default(),
            watchers: metrics.gauge(&catalogue::WATCHERS),
        };
        for status in STATUSES {
            registered.transitions.with([status.name()]);
        }
        for reason in REJECTIONS {
            registered.rejections.with([reason.name()]);
        }
        for status in DECISIONS {
            registered.decisions.with([status.name()]);
        }
        for wait in WAITS {
            registered.deadlines_passed.with([name(wait)]);
        }
        registered.show_open(&[], 0);
        let (age, horizon) = (metrics.gauge(&catalogue::HORIZON_AGE), Arc::clone(&registered.horizon));
        metrics.on_scrape(move || {
            let horizon = *horizon.lock().unwrap_or_else(PoisonError::into_inner);
            let now = OffsetDateTime::now_utc();
            age.set(horizon.map_or(0.0, |horizon| (now - horizon).as_seconds_f64().max(0.0)));
        });
        registered
    }

    /// Counts what is committed.
    pub fn count(&self, committed: &[Happened]) {
        for happened in committed {
            let status = happened.status.name();
            self.transitions.with([status]).inc();
            if let Some(reason) = happened.rejected {
                self.rejections.with([reason.name()]).inc();
            }
            if let Some(Money { currency, minor }) = &happened.confirmed {
                self.confirmed.with([currency]).inc_by(u64::try_from(*minor).unwrap_or_default());
            }
            if let Some(time) = happened.decided_after {
                self.decisions.with([status]).observe_in(time.as_secs_f64(), happened.trace);
            }
        }
    }

    /// Counts a deadline whose effect is committed.
    pub fn deadline_passed(&self, wait: Wait) {
        self.deadlines_passed.with([name(wait)]).inc();
    }

    /// Shows what is open, by status, and how many of all orders are overdue.
    pub fn show_open(&self, open: &[Open], overdue: usize) {
        for status in OPEN {
            let found = open.iter().find(|open| open.status == status.name());
            let count = found.map_or(0, |open| usize::try_from(open.orders).unwrap_or_default());
            self.open.with([status.name()]).set_count(count);
            self.oldest_open
                .with([status.name()])
                .set(found.map_or(0.0, |open| open.oldest_seconds.max(0.0)));
        }
        self.overdue.set_count(overdue);
    }

    /// It is not known any more what is open.
    pub fn forget_open(&self) {
        self.open.clear();
        self.oldest_open.clear();
        self.overdue.set(f64::NAN);
    }

    /// Some deadline is due, and it is not known yet what has arrived: from now on that gets older.
    pub fn horizon_wanted(&self) {
        self.horizon
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_or_insert_with(OffsetDateTime::now_utc);
    }

    /// Up to when everything is known to have arrived, or that nothing is due.
    pub fn horizon_is(&self, horizon: Option<OffsetDateTime>) {
        *self.horizon.lock().unwrap_or_else(PoisonError::into_inner) = horizon;
    }
}

fn name(wait: Wait) -> &'static str {
    match wait {
        Wait::Stock => "stock",
        Wait::Payment => "payment",
        Wait::Shipment => "shipment",
        Wait::Compensation => "compensation",
    }
}
