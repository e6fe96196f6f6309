//! Money: orders, payments, billing's ledger and the provider's own agree.

use std::collections::{HashMap, HashSet};

use uuid::Uuid;

use crate::verify::{
    facts::{Facts, Money, OrderStatus, Payment, PaymentStatus, Placed, Posting, ProviderLines},
    report::Invariant,
    saga::{self, Saga},
};

/// Payments that are named as having no outcome.
const NAMED: usize = 10;

pub(super) fn check(facts: &Facts, invariant: &mut Invariant) {
    let mut postings: HashMap<Uuid, Vec<&Posting>> = HashMap::new();
    for posting in &facts.postings {
        postings.entry(posting.payment_id).or_default().push(posting);
    }
    let sagas = saga::all(&facts.order_events);
    let nothing = ProviderLines::default();
    let mut paid_orders = HashSet::with_capacity(facts.payments.len());
    for payment in &facts.payments {
        invariant.checked += 1;
        let subject = format!("payment {} of order {}", payment.id, payment.order_id);
        if !paid_orders.insert(payment.order_id) {
            invariant.offend(&subject, "is the second payment of its order");
        }
        match sagas.get(&payment.order_id) {
            None => invariant.offend(&subject, "there is no such order"),
            Some(saga) => against_order(payment, saga, &subject, invariant),
        }
        refund(payment, &subject, invariant);
        against_provider(payment, facts.provider.get(&payment.id).unwrap_or(&nothing), &subject, invariant);
        let booked = postings.remove(&payment.id).unwrap_or_default();
        against_postings(payment, &booked, &subject, invariant);
    }
    for (id, saga) in sagas.iter().filter(|(id, _)| !paid_orders.contains(*id)) {
        if saga.has_asked_for_money() && is_judged(saga) {
            invariant
                .offend(format_args!("order {id}"), format_args!("is {} and has no payment", saga.status));
        }
    }
    let known: HashSet<Uuid> = facts.payments.iter().map(|payment| payment.id).collect();
    for (id, lines) in facts.provider.iter().filter(|(id, _)| !known.contains(*id)) {
        let (charges, refunds, declines) = (lines.charges.len(), lines.refunds.len(), lines.declines);
        let what = format!("{charges} charges, {refunds} refunds, {declines} declines without a payment");
        invariant.offend(format_args!("payment {id} at the provider"), what);
    }
    for id in postings.keys() {
        invariant.offend(format_args!("payment {id}"), "has postings and no row in payments");
    }
    entries_sum_to_zero(facts, invariant);
    note_open(facts, &sagas, invariant);
    match sagas.values().filter(|saga| saga.closed).count() {
        0 => {}
        1 => invariant.note("1 order was closed by an operator, who answers for its money and its stock"),
        n => invariant
            .note(format!("{n} orders were closed by operators, who answer for their money and stock")),
    }
}

/// Money goes back in full, or not at all.
fn refund(payment: &Payment, subject: &str, invariant: &mut Invariant) {
    let is_due = payment.status == PaymentStatus::Refunded && payment.reference.is_some();
    let due = if is_due { payment.amount.minor } else { 0 };
    let gave = payment.refunded_minor;
    invariant
        .expect(gave == due, subject, || format!("is {}, and gave back {gave} of {due}", payment.status));
}

/// What the provider may never answer holds nothing up where an operator answers for the order.
fn note_open(facts: &Facts, sagas: &HashMap<Uuid, Saga<'_>>, invariant: &mut Invariant) {
    let is_operators = |payment: &&Payment| sagas.get(&payment.order_id).is_some_and(Saga::is_operators);
    let open = facts.payments.iter().filter(|payment| payment.is_open());
    let mut open: Vec<Uuid> = open.filter(is_operators).map(|payment| payment.id).collect();
    open.sort_unstable();
    let mut named: Vec<String> = open.iter().take(NAMED).map(Uuid::to_string).collect();
    if open.len() > NAMED {
        named.push("…".to_owned());
    }
    let named = named.join(", ");
    match open.len() {
        0 => {}
        1 => invariant
            .note(format!("1 payment has no outcome yet, and an operator answers for its order: {named}")),
        n => invariant.note(format!(
            "{n} payments have no outcome yet, and operators answer for their orders: {named}"
        )),
    }
}

/// Before its end nothing is promised yet; and an operator may have ended it in another way.
fn is_judged(saga: &Saga<'_>) -> bool {
    saga.is_at_its_end() && !saga.closed
}

fn against_order(payment: &Payment, saga: &Saga<'_>, subject: &str, invariant: &mut Invariant) {
    if let Some(placed) = saga.placed {
        against_placed(payment, placed, subject, invariant);
    }
    invariant.expect(saga.has_asked_for_money(), subject, || "its order has never asked for it".to_owned());
    if !is_judged(saga) {
        return;
    }
    let fits = match saga.status {
        OrderStatus::Confirmed => payment.status == PaymentStatus::Succeeded,
        _ => matches!(payment.status, PaymentStatus::Failed | PaymentStatus::Refunded),
    };
    invariant.expect(fits, subject, || format!("is {}, its order {}", payment.status, saga.status));
    let told = saga.refunded_minor.unwrap_or(payment.refunded_minor);
    invariant.expect(!fits || told == payment.refunded_minor, subject, || {
        format!("gave back {}, its order was told {told}", payment.refunded_minor)
    });
}

fn against_placed(payment: &Payment, placed: &Placed, subject: &str, invariant: &mut Invariant) {
    invariant.expect(payment.id == placed.payment_id, subject, || {
        format!("its order wants payment {}", placed.payment_id)
    });
    invariant.expect(payment.customer_id == placed.customer_id, subject, || {
        format!("is of customer {}, its order of {}", payment.customer_id, placed.customer_id)
    });
    invariant.expect(payment.is_tombstone() || payment.amount == placed.total, subject, || {
        format!("is {}, its order {}", payment.amount, placed.total)
    });
}

fn against_provider(payment: &Payment, lines: &ProviderLines, subject: &str, invariant: &mut Invariant) {
    let (charges, refunds) = (lines.charges.len(), lines.refunds.len());
    // While the outcome is not known here, the provider may know it already.
    let (wanted_charges, wanted_refunds) = match payment.status {
        PaymentStatus::Pending => return,
        PaymentStatus::Succeeded => (1, 0),
        PaymentStatus::Refunding => (1, refunds.min(1)),
        PaymentStatus::Refunded if payment.refunded_minor > 0 => (1, 1),
        PaymentStatus::Failed | PaymentStatus::Refunded => (0, 0),
    };
    invariant.expect(charges == wanted_charges, subject, || {
        format!("is {} and was charged {charges} times at the provider", payment.status)
    });
    invariant.expect(refunds == wanted_refunds, subject, || {
        format!("is {} and was refunded {refunds} times at the provider", payment.status)
    });
    for (amount, reference) in &lines.charges {
        invariant.expect(*amount == payment.amount, subject, || {
            format!("is {} and was charged {amount} at the provider", payment.amount)
        });
        invariant.expect(payment.reference.as_ref() == Some(reference), subject, || {
            format!(
                "has reference {:?}, the provider's is {reference}",
                payment.reference.as_deref().unwrap_or("none")
            )
        });
    }
    for amount in &lines.refunds {
        let wanted = Money { minor: payment.refunded_minor, ..payment.amount.clone() };
        invariant.expect(payment.status == PaymentStatus::Refunding || *amount == wanted, subject, || {
            format!("gave back {wanted}, the provider {amount}")
        });
    }
}

fn against_postings(payment: &Payment, booked: &[&Posting], subject: &str, invariant: &mut Invariant) {
    let taken = matches!(payment.status, PaymentStatus::Succeeded | PaymentStatus::Refunding)
        || payment.refunded_minor > 0;
    for (refund, minor) in
        [(false, if taken { payment.amount.minor } else { 0 }), (true, -payment.refunded_minor)]
    {
        for (account, minor) in [("PROVIDER_CLEARING", minor), ("CUSTOMER_SALES", -minor)] {
            let of_account: Vec<_> = booked
                .iter()
                .filter(|posting| posting.refund == refund && posting.account == account)
                .collect();
            let sum: i64 = of_account.iter().map(|posting| posting.amount.minor).sum();
            let kind = if refund { "refund" } else { "charge" };
            invariant.expect(sum == minor && of_account.len() == usize::from(minor != 0), subject, || {
                format!("is {} and has a {kind} of {sum} on {account}, {minor} is due", payment.status)
            });
        }
    }
    for posting in booked {
        invariant.expect(posting.amount.currency == payment.amount.currency, subject, || {
            format!("is in {}, posted in {}", payment.amount.currency, posting.amount.currency)
        });
    }
}

fn entries_sum_to_zero(facts: &Facts, invariant: &mut Invariant) {
    let mut sums: HashMap<(Uuid, &str), i128> = HashMap::new();
    for posting in &facts.postings {
        let sum = sums.entry((posting.entry_id, &posting.amount.currency)).or_default();
        *sum += i128::from(posting.amount.minor);
    }
    for ((entry, currency), sum) in sums.into_iter().filter(|(_, sum)| *sum != 0) {
        invariant
            .offend(format_args!("ledger entry {entry}"), format_args!("sums to {currency} {sum}, not to 0"));
    }
}
