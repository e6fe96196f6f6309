//! Every status × command, and what follows from it.

use super::*;

fn payment(status: Status) -> Payment {
    let taken = matches!(status, Status::Succeeded | Status::Refunding);
    Payment {
        payment_id: Uuid::now_v7(),
        order_id: Uuid::now_v7(),
        customer_id: "cust-1".to_owned(),
        amount: Money { currency: "EUR".to_owned(), minor: 4999 },
        status,
        failure: (status == Status::Failed).then_some(Failure::Declined),
        version: 1,
        attempts: 1,
        provider_reference: taken.then(|| "ch_1".to_owned()),
        refund_requested: false,
        refunded_minor: 0,
        created_at: OffsetDateTime::UNIX_EPOCH,
        updated_at: OffsetDateTime::UNIX_EPOCH,
    }
}

fn charged() -> Command {
    Command::Charged { reference: "ch_1".to_owned() }
}

fn succeeded() -> Change {
    Change::Succeeded { reference: "ch_1".to_owned() }
}

#[test]
fn every_status_answers_every_command() {
    use Status::{Failed, Pending, Refunded, Refunding, Succeeded};
    let refused = || Command::Refused(Failure::Declined);
    let table = [
        (Pending, Command::RequestRefund, vec![Change::RefundNoted]),
        (Pending, charged(), vec![succeeded()]),
        (Pending, refused(), vec![Change::Failed(Failure::Declined)]),
        (Pending, Command::Refunded, vec![]),
        (Succeeded, Command::RequestRefund, vec![Change::Refunding]),
        (Succeeded, charged(), vec![]),
        (Succeeded, refused(), vec![]),
        (Succeeded, Command::Refunded, vec![]),
        (Failed, Command::RequestRefund, vec![Change::Refunded { minor: 0 }]),
        // A late success is never ignored.
        (Failed, charged(), vec![succeeded(), Change::Refunding]),
        (Failed, refused(), vec![]),
        (Failed, Command::Refunded, vec![]),
        (Refunding, Command::RequestRefund, vec![]),
        (Refunding, charged(), vec![]),
        (Refunding, refused(), vec![]),
        (Refunding, Command::Refunded, vec![Change::Refunded { minor: 4999 }]),
        (Refunded, Command::RequestRefund, vec![Change::RefundConfirmed { minor: 0 }]),
        (Refunded, charged(), vec![succeeded(), Change::Refunding]),
        (Refunded, refused(), vec![]),
        (Refunded, Command::Refunded, vec![]),
    ];
    for (status, command, expected) in table {
        assert_eq!(payment(status).decide(&command), expected, "{status:?} x {command:?}");
    }
}

#[test]
fn a_refund_before_the_first_call_voids_the_payment() {
    let payment = Payment { attempts: 0, ..payment(Status::Pending) };
    assert_eq!(payment.decide(&Command::RequestRefund), [Change::Refunded { minor: 0 }]);
}

#[test]
fn a_noted_refund_follows_the_outcome_of_the_charge() {
    let mut payment = payment(Status::Pending);
    payment.evolve(&Change::RefundNoted);
    assert_eq!(payment.version, 1, "a note is no transition");
    assert_eq!(payment.decide(&Command::RequestRefund), []);
    assert_eq!(payment.decide(&charged()), [succeeded(), Change::Refunding]);
    assert_eq!(
        payment.decide(&Command::Refused(Failure::InsufficientFunds)),
        [Change::Failed(Failure::InsufficientFunds), Change::Refunded { minor: 0 }]
    );
}

#[test]
fn a_charge_answered_again_after_its_refund_changes_nothing() {
    let mut payment = payment(Status::Pending);
    for change in [succeeded(), Change::Refunding, Change::Refunded { minor: 4999 }] {
        payment.evolve(&change);
    }
    assert_eq!((payment.status, payment.version, payment.refunded_minor), (Status::Refunded, 4, 4999));
    assert_eq!(payment.decide(&charged()), []);
}

#[test]
fn every_entry_sums_to_zero_and_a_refund_undoes_its_charge() {
    let payment = payment(Status::Pending);
    let charge = payment.postings(&succeeded());
    let refund = payment.postings(&Change::Refunded { minor: 4999 });
    assert_eq!(charge.iter().map(|posting| posting.minor).collect::<Vec<_>>(), [4999, -4999]);
    for (taken, returned) in charge.iter().zip(&refund) {
        assert_eq!((taken.account, taken.minor + returned.minor), (returned.account, 0));
    }
    assert_eq!(payment.postings(&Change::Refunded { minor: 0 }), []);
    assert_eq!(payment.postings(&Change::Failed(Failure::Expired)), []);
    assert_eq!(payment.postings(&Change::Refunding), []);
}

#[test]
fn the_backoff_doubles_to_its_cap() {
    let steps: Vec<i32> = [1, 2, 3, 6, 7, 8, i32::MAX].into_iter().map(backoff_ms).collect();
    assert_eq!(steps, [100, 200, 400, 3_200, 5_000, 5_000, 5_000]);
    assert_eq!(backoff_ms(0), 100);
}

#[test]
fn names_read_back() {
    for status in [Status::Pending, Status::Succeeded, Status::Failed, Status::Refunding, Status::Refunded] {
        assert_eq!(status.as_str().parse::<Status>().ok(), Some(status));
    }
    for failure in [Failure::Declined, Failure::InsufficientFunds, Failure::Expired] {
        assert_eq!(failure.as_str().parse::<Failure>().ok(), Some(failure));
    }
    assert!("PAID".parse::<Status>().is_err());
}

#[test]
fn the_domain_knows_no_infrastructure() {
    let source = include_str!("../domain.rs");
    for name in ["sqlx", "tonic", "rdkafka", "axum", "tokio", "reqwest"] {
        assert!(!source.contains(&format!("use {name}")) && !source.contains(&format!("{name}::")), "{name}");
    }
}
