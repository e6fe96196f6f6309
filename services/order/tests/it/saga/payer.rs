//! Billing and the provider: the rules of billing's domain over the provider's own ledger.

use billing::domain::{Change, Command, Failure, Money, NO_CURRENCY, Payment, Status};
use time::OffsetDateTime;
use uuid::Uuid;

use super::Sabotage;

/// What billing asks the provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    Charge,
    Refund,
}

/// What billing tells the order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    Succeeded,
    Failed(Failure),
    Refunded(i64),
}

/// The provider's ledger for one payment.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    pub charged: i64,
    pub refunded: i64,
    declined: Option<Failure>,
}

/// One order's payment, as billing has it, and its calls.
#[derive(Clone, Debug)]
pub struct Bill {
    pub amount: i64,
    pub payment: Option<Payment>,
    /// The request was handled in time, but its first call comes too late.
    pub expires: bool,
    /// On their way to the provider.
    pub calls: Vec<Call>,
    /// On their way back.
    pub answers: Vec<Command>,
    pub ledger: Ledger,
}

impl Bill {
    pub fn new(amount: i64) -> Self {
        let (calls, answers) = (vec![], vec![]);
        Self { amount, payment: None, expires: false, calls, answers, ledger: Ledger::default() }
    }

    /// Handles `PaymentRequested`.
    pub fn requested(&mut self, expired: bool) -> Vec<Told> {
        if self.payment.is_some() {
            return vec![];
        }
        let mut payment =
            first_version(Money { currency: "EUR".into(), minor: self.amount }, Status::Pending);
        if expired {
            payment.status = Status::Failed;
            payment.failure = Some(Failure::Expired);
        }
        let told = payment.failure.map(Told::Failed);
        self.payment = Some(payment);
        told.into_iter().collect()
    }

    /// Handles `RefundRequested`.
    pub fn refund_requested(&mut self, sabotage: Sabotage) -> Vec<Told> {
        if self.payment.is_none() {
            let nothing = Money { currency: NO_CURRENCY.into(), minor: 0 };
            self.payment =
                Some(Payment { refund_requested: true, ..first_version(nothing, Status::Refunded) });
            return vec![Told::Refunded(0)];
        }
        let told = self.settle(&Command::RequestRefund);
        if let (Sabotage::ForgetDoubt, Some(payment)) = (sabotage, &mut self.payment) {
            payment.refund_requested = false;
        }
        told
    }

    /// Lets a command take effect, and says what is told of it.
    pub fn settle(&mut self, command: &Command) -> Vec<Told> {
        let Some(payment) = &mut self.payment else { return vec![] };
        let changes = payment.decide(command);
        let told = changes.iter().filter_map(|change| {
            payment.evolve(change);
            match change {
                Change::RefundNoted | Change::Refunding => None,
                Change::Succeeded { .. } => Some(Told::Succeeded),
                Change::Failed(failure) => Some(Told::Failed(*failure)),
                Change::Refunded { minor } | Change::RefundConfirmed { minor } => {
                    Some(Told::Refunded(*minor))
                }
            }
        });
        told.collect()
    }

    /// Whether the provider has something to be asked.
    pub fn is_owed(&self) -> bool {
        let status = self.payment.as_ref().map(|payment| payment.status);
        matches!(status, Some(Status::Pending | Status::Refunding))
    }

    /// The dispatcher takes the payment up.
    pub fn claim(&mut self) -> Vec<Told> {
        let Some(payment) = &mut self.payment else { return vec![] };
        payment.attempts += 1;
        match payment.status {
            Status::Pending if self.expires && payment.attempts == 1 => {
                return self.settle(&Command::Refused(Failure::Expired));
            }
            Status::Pending => self.calls.push(Call::Charge),
            Status::Refunding => self.calls.push(Call::Refund),
            Status::Succeeded | Status::Failed | Status::Refunded => {}
        }
        vec![]
    }

    /// Whether billing has heard that the charge was refused.
    pub fn has_failed(&self) -> bool {
        self.payment.as_ref().is_some_and(|payment| payment.failure.is_some())
    }

    /// The provider handles a call; each at most once for each payment. What it has refused it remembers as well, unless
    /// it is asked again after it was heard.
    pub fn provide(&mut self, call: Call, outcome: Result<(), Failure>) {
        let remembered = self.ledger.declined.filter(|_| !self.has_failed()).map_or(outcome, Err);
        let answer = match (call, remembered) {
            (Call::Refund, _) => {
                self.ledger.refunded = self.ledger.charged;
                Command::Refunded
            }
            (Call::Charge, Err(failure)) if self.ledger.charged == 0 => {
                self.ledger.declined = Some(failure);
                Command::Refused(failure)
            }
            (Call::Charge, _) => {
                self.ledger.charged = self.amount;
                Command::Charged { reference: "ch_1".into() }
            }
        };
        self.answers.push(answer);
    }
}

fn first_version(amount: Money, status: Status) -> Payment {
    Payment {
        payment_id: Uuid::nil(),
        order_id: Uuid::nil(),
        customer_id: "cust-1".into(),
        amount,
        status,
        failure: None,
        version: 1,
        attempts: 0,
        provider_reference: None,
        refund_requested: false,
        refunded_minor: 0,
        created_at: OffsetDateTime::UNIX_EPOCH,
        updated_at: OffsetDateTime::UNIX_EPOCH,
    }
}
