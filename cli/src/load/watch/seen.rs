//! What one stream has told, and whether that is what the database has. Pure rules.

use proto::order::v1::{OrderStatus, OrderTransition};
use tonic::Code;
use uuid::Uuid;

use crate::load::tally;

/// What the streams of one order have told so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    pub order_id: Uuid,
    /// The highest version, from which a stream that broke is resumed; 0 before the first.
    pub last: i32,
    /// Transitions that were new.
    pub transitions: i32,
    /// Transitions that came again, or later than one with a higher version.
    pub repeated: u32,
    /// Whether an order may come to its end with the last transition.
    pub at_end: bool,
    pub ending: Ending,
}

/// How the last stream of an order has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    Open,
    /// By the server, which says that the order is at its end.
    Finished,
    Failed(Code),
}

/// What the database has of an order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    pub events: i32,
    pub last: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The database has the same.
    Whole,
    /// The order went on after its end, when the server had ended the stream: a cancel may follow a shipment.
    WentOn,
    /// The stream has told less, or what the database does not have.
    Missed,
}

impl Seen {
    pub fn new(order_id: Uuid) -> Self {
        Self { order_id, last: 0, transitions: 0, repeated: 0, at_end: false, ending: Ending::Open }
    }

    /// Takes one transition; false where it had come before.
    pub fn take(&mut self, transition: &OrderTransition) -> bool {
        if transition.version <= self.last {
            self.repeated += 1;
            return false;
        }
        self.last = transition.version;
        self.transitions += 1;
        self.at_end = match transition.status() {
            OrderStatus::Rejected | OrderStatus::Cancelled => true,
            OrderStatus::Confirmed => transition.event == "ShipmentScheduled",
            _ => false,
        };
        true
    }

    /// Whether an open stream still has to tell something that the database had.
    pub fn owes(&self, due: Stored) -> bool {
        self.ending == Ending::Open && self.last < due.last
    }

    /// Holds it against what the database had before the streams were closed, which had to come, and what it has since.
    pub fn verdict(&self, due: Stored, now: Stored) -> Verdict {
        let is_whole = self.transitions == self.last;
        let is_stored = now.events == now.last && self.last <= now.last;
        if !is_whole || !is_stored {
            Verdict::Missed
        } else if self.last >= due.last {
            Verdict::Whole
        } else if self.ending == Ending::Finished && self.at_end {
            Verdict::WentOn
        } else {
            Verdict::Missed
        }
    }
}

impl Ending {
    /// For a report.
    pub fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Finished => "ended",
            Self::Failed(code) => tally::code_name(code),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transition(version: i32, event: &str, status: OrderStatus) -> OrderTransition {
        OrderTransition {
            version,
            event: event.to_owned(),
            status: status.into(),
            ..OrderTransition::default()
        }
    }

    fn after(versions: &[i32]) -> Seen {
        let mut seen = Seen::new(Uuid::nil());
        for version in versions {
            seen.take(&transition(*version, "StockReserved", OrderStatus::StockReserved));
        }
        seen
    }

    fn stored(last: i32) -> Stored {
        Stored { events: last, last }
    }

    #[test]
    fn a_stream_that_told_all_is_whole() {
        let seen = after(&[1, 2, 3]);
        assert_eq!((seen.last, seen.transitions, seen.repeated), (3, 3, 0));
        assert_eq!(seen.verdict(stored(3), stored(3)), Verdict::Whole);
    }

    #[test]
    fn a_gap_is_missed_although_the_last_version_came() {
        for gap in [&[2, 3][..], &[1, 3], &[1, 2, 5]] {
            let seen = after(gap);
            let last = stored(seen.last);
            assert_eq!(seen.verdict(last, last), Verdict::Missed, "{gap:?}");
        }
    }

    #[test]
    fn a_repeat_is_counted_and_does_not_fill_a_gap() {
        let seen = after(&[1, 2, 2, 1, 3]);
        assert_eq!((seen.last, seen.transitions, seen.repeated), (3, 3, 2));
        assert_eq!(seen.verdict(stored(3), stored(3)), Verdict::Whole);
        let late = after(&[1, 3, 2]);
        assert_eq!((late.transitions, late.repeated), (2, 1));
        assert_eq!(late.verdict(stored(3), stored(3)), Verdict::Missed);
        assert_eq!(after(&[0]).repeated, 1, "no transition has version 0");
    }

    #[test]
    fn what_the_database_had_must_have_come() {
        let mut seen = after(&[1, 2]);
        assert!(seen.owes(stored(3)) && !seen.owes(stored(2)));
        for ending in [Ending::Open, Ending::Finished, Ending::Failed(Code::Internal)] {
            seen.ending = ending;
            assert_eq!(seen.verdict(stored(3), stored(3)), Verdict::Missed, "{ending:?}");
        }
        assert!(!seen.owes(stored(3)), "nothing more comes");
        assert_eq!(after(&[]).verdict(stored(1), stored(1)), Verdict::Missed);
    }

    #[test]
    fn what_happens_after_the_streams_were_closed_need_not_have_come() {
        assert_eq!(after(&[1, 2]).verdict(stored(2), stored(4)), Verdict::Whole);
        assert_eq!(after(&[1, 2, 3]).verdict(stored(2), stored(4)), Verdict::Whole);
    }

    #[test]
    fn what_the_database_does_not_have_is_a_fault_too() {
        assert_eq!(after(&[1, 2, 3]).verdict(stored(2), stored(2)), Verdict::Missed);
        let torn = Stored { events: 2, last: 3 };
        assert_eq!(after(&[1, 2, 3]).verdict(torn, torn), Verdict::Missed);
        assert_eq!(after(&[1]).verdict(Stored::default(), Stored::default()), Verdict::Missed);
    }

    #[test]
    fn an_order_may_go_on_after_its_end_and_only_then() {
        for (event, status, verdict) in [
            ("ShipmentScheduled", OrderStatus::Confirmed, Verdict::WentOn),
            ("OrderCancelled", OrderStatus::Cancelled, Verdict::WentOn),
            ("OrderRejected", OrderStatus::Rejected, Verdict::WentOn),
            ("OrderConfirmed", OrderStatus::Confirmed, Verdict::Missed),
            ("ShipmentScheduled", OrderStatus::Compensating, Verdict::Missed),
        ] {
            let mut seen = after(&[1]);
            seen.take(&transition(2, event, status));
            seen.ending = Ending::Finished;
            assert_eq!(seen.verdict(stored(4), stored(4)), verdict, "{event}");
            seen.ending = Ending::Failed(Code::Internal);
            assert_eq!(seen.verdict(stored(4), stored(4)), Verdict::Missed, "{event}");
        }
    }
}
