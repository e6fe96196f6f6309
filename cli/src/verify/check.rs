//! The rules of the promise, each a pure function from facts to an invariant with its offenders.

mod acked;
mod dead_letters;
mod effects_once;
mod events_published;
mod notifications;
mod order_history;
mod order_per_key;
mod outbox_topic;
mod payments;
mod sagas;
mod stock;

use super::{facts::Facts, report::Invariant};

/// A rule and its stable name.
pub(super) struct Rule {
    pub(super) name: &'static str,
    /// Whether it compares what is on its way between services: what has not arrived is not lost.
    pub(super) needs_rest: bool,
    pub(super) check: fn(&Facts, &mut Invariant),
}

/// Every rule, in the order of the report.
pub(super) const RULES: [Rule; 11] = [
    Rule { name: "order-history", needs_rest: false, check: order_history::check },
    Rule { name: "events-published", needs_rest: true, check: events_published::check },
    Rule { name: "outbox-topic", needs_rest: true, check: outbox_topic::check },
    Rule { name: "order-per-key", needs_rest: false, check: order_per_key::check },
    Rule { name: "effects-once", needs_rest: true, check: effects_once::check },
    Rule { name: "dead-letters", needs_rest: false, check: dead_letters::check },
    Rule { name: "sagas", needs_rest: true, check: sagas::check },
    Rule { name: "stock", needs_rest: true, check: stock::check },
    Rule { name: "payments", needs_rest: true, check: payments::check },
    Rule { name: "notifications", needs_rest: true, check: notifications::check },
    Rule { name: "acked", needs_rest: false, check: acked::check },
];

impl Rule {
    /// Judges the facts.
    pub(super) fn judge(&self, facts: &Facts, at_rest: bool) -> Invariant {
        if self.needs_rest && !at_rest {
            return Invariant::not_checked(self.name, "records are still on their way, see at-rest");
        }
        let mut invariant = Invariant::new(self.name);
        (self.check)(facts, &mut invariant);
        invariant
    }
}

#[cfg(test)]
mod tests;
