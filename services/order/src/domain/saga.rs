//! The saga of an order: what is asked of whom, what each answer leads to, and what undoes it.

use time::OffsetDateTime;

use super::{Event, Order, Outcome, Payment, Reason, Resolution, Shipment, Status, Stock, evolve};

/// One step of an order: it asks, and goes on with the answer.
#[derive(Debug)]
pub struct Step {
    /// In which the answer is waited for.
    pub status: Status,
    /// What is asked for.
    pub request: Request,
    /// What undoes it, whether it was done or not: a request that has not arrived yet is undone before it happens.
    pub compensation: Request,
    /// How long the answer is waited for.
    pub wait: Wait,
    /// What a refusal or a deadline leads to.
    pub otherwise: Otherwise,
}

/// What happens where a step does not succeed in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Otherwise {
    /// The order is undone, step by step, and ends REJECTED for this reason.
    Undo(Reason),
    /// The customer has paid and was told so: it is asked for again, and then an operator decides.
    Insist(Reason),
}

/// The steps of an order, in their order.
pub const STEPS: [Step; 3] = [
    Step {
        status: Status::Pending,
        request: Request::ReserveStock,
        compensation: Request::ReleaseStock,
        wait: Wait::Stock,
        otherwise: Otherwise::Undo(Reason::StockExpired),
    },
    Step {
        status: Status::StockReserved,
        request: Request::TakePayment,
        compensation: Request::RefundPayment,
        wait: Wait::Payment,
        otherwise: Otherwise::Undo(Reason::PaymentExpired),
    },
    Step {
        status: Status::Confirmed,
        request: Request::CommitStock,
        compensation: Request::ReleaseStock,
        wait: Wait::Shipment,
        otherwise: Otherwise::Insist(Reason::ShipmentOverdue),
    },
];

/// How often an unanswered compensation or shipment is asked for again before an operator has to look.
pub const REPEATS: i32 = 4;

/// What other services are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Inventory holds the items.
    ReserveStock,
    /// Inventory ships what it holds.
    CommitStock,
    /// Inventory holds nothing any more.
    ReleaseStock,
    /// Billing charges.
    TakePayment,
    /// Billing gives back what was or will turn out to have been charged.
    RefundPayment,
}

/// What an order waits for; each has a deadline of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Inventory's answer to the reservation.
    Stock,
    /// Billing's answer to the charge.
    Payment,
    /// Inventory's answer to the commitment.
    Shipment,
    /// What was asked back.
    Compensation,
}

/// What somebody wants of an order, or has found out about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// The customer cancels.
    Cancel {
        /// When.
        at: OffsetDateTime,
    },
    /// Inventory holds everything.
    StockReserved,
    /// Inventory holds nothing, and nothing will be held.
    StockRejected(Reason),
    /// Inventory holds nothing any more.
    StockReleased,
    /// Inventory ships it.
    ShipmentScheduled(Shipment),
    /// Inventory has nothing to ship.
    CommitFailed,
    /// Billing: the provider has the money.
    PaymentSucceeded,
    /// Billing: the provider refused for good.
    PaymentFailed(Reason),
    /// Billing: nothing of the payment is left with us.
    PaymentRefunded {
        /// What was given back.
        minor: i64,
    },
    /// What it waits for has not come in time.
    DeadlinePassed,
    /// An operator decides.
    Resolve {
        /// What.
        resolution: Resolution,
        /// Why.
        reason: String,
    },
}

/// A command that the order's state does not allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Too late to cancel.
    #[error("the order can no longer be cancelled")]
    NotCancellable,
    /// No operator is waited for, or not for this.
    #[error("the order does not wait for an operator's decision of this kind")]
    NotResolvable,
}

impl Order {
    /// What it waits for.
    pub fn waits_for(&self) -> Option<Wait> {
        if self.status == Status::NeedsAttention {
            None
        } else if self.is_owed() {
            Some(Wait::Compensation)
        } else {
            self.step().map(|step| step.wait)
        }
    }

    /// The step whose answer it waits for.
    fn step(&self) -> Option<&'static Step> {
        let [stock, payment, shipment] = &STEPS;
        match (self.status, self.stock, self.payment) {
            (Status::Pending, Stock::Requested, _) => Some(stock),
            (Status::Pending | Status::StockReserved, _, Payment::Requested) => Some(payment),
            (Status::Confirmed, Stock::Reserved, _) => Some(shipment),
            _ => None,
        }
    }
}

/// The events that a command causes in a state. None is the answer to a repeat; a late success is never a repeat.
pub fn decide(order: &Order, command: Command) -> Result<Vec<Event>, Refused> {
    let mut story = Story { order: order.clone(), events: Vec::new() };
    match command {
        Command::Cancel { at } => story.cancel(at)?,
        Command::StockReserved => match order.stock {
            Stock::Requested => story.goes_on(Event::StockReserved {}),
            // Its release is behind it.
            Stock::Reserved | Stock::Shipped | Stock::Releasing => {}
            Stock::NotWanted | Stock::Free => story.goes_on(Event::LateStockFound {}),
        },
        Command::StockRejected(reason) => {
            // Where it was asked back in the meantime, that answer counts.
            if order.stock == Stock::Requested {
                story.goes_on(Event::OrderRejected { reason });
            }
        }
        Command::StockReleased => {
            if order.stock == Stock::Releasing {
                story.goes_on(Event::StockReleased {});
                story.ends_if_nothing_is_owed();
            }
        }
        Command::ShipmentScheduled(shipment) => match (order.stock, order.payment) {
            (Stock::Reserved, Payment::Taken) => story.goes_on(Event::ShipmentScheduled(shipment)),
            // Its release is behind it and calls the shipment off; or nobody has paid yet, and its commitment is.
            (Stock::Requested | Stock::Reserved | Stock::Shipped | Stock::Releasing, _) => {}
            (Stock::NotWanted | Stock::Free, _) => story.goes_on(Event::LateStockFound {}),
        },
        Command::CommitFailed => {
            if order.status == Status::Confirmed && order.stock == Stock::Reserved {
                story.goes_on(Event::AttentionNeeded { reason: Reason::CommitFailed });
            }
        }
        Command::PaymentSucceeded => match order.payment {
            Payment::Requested => {
                story.goes_on(Event::PaymentSucceeded {});
                story.goes_on(Event::OrderConfirmed {});
            }
            // Its refund is behind it.
            Payment::Taken | Payment::Refunding => {}
            Payment::NotWanted | Payment::Settled => story.goes_on(Event::LatePaymentFound {}),
        },
        Command::PaymentFailed(reason) => match (order.payment, order.stock) {
            (Payment::Requested, Stock::NotWanted) => story.goes_on(Event::OrderRejected { reason }),
            (Payment::Requested, _) => story.undo(reason, Outcome::Rejected, true),
            // Billing answers the refund too; that answer counts.
            _ => {}
        },
        Command::PaymentRefunded { minor } => {
            if order.payment == Payment::Refunding {
                story.goes_on(Event::PaymentRefunded { minor });
                story.ends_if_nothing_is_owed();
            }
        }
        Command::DeadlinePassed => story.deadline_passes(),
        Command::Resolve { resolution, reason } => story.resolve(resolution, reason)?,
    }
    Ok(story.events)
}

/// What is asked for with an event, given the order after it.
pub fn requests(before: Option<&Order>, event: &Event, after: &Order) -> Vec<Request> {
    let mut requests = Vec::new();
    match event {
        Event::OrderPlaced(placed) if placed.reserves_stock => requests.push(Request::ReserveStock),
        // Before there was stock.
        Event::OrderPlaced(_) => requests.push(Request::TakePayment),
        Event::StockReserved {} => requests.push(Request::TakePayment),
        Event::OrderConfirmed {} if after.stock == Stock::Reserved => requests.push(Request::CommitStock),
        Event::RequestsRepeated {} => {
            match after.stock {
                Stock::Releasing => requests.push(Request::ReleaseStock),
                Stock::Reserved if after.status == Status::Confirmed => requests.push(Request::CommitStock),
                _ => {}
            }
            if after.payment == Payment::Refunding {
                requests.push(Request::RefundPayment);
            }
        }
        _ => {
            let began = |was: bool, is: bool| is && !was;
            let (was, is) = (before.map(|order| order.stock), after.stock);
            if began(was == Some(Stock::Releasing), is == Stock::Releasing) {
                requests.push(Request::ReleaseStock);
            }
            let (was, is) = (before.map(|order| order.payment), after.payment);
            if began(was == Some(Payment::Refunding), is == Payment::Refunding) {
                requests.push(Request::RefundPayment);
            }
        }
    }
    requests
}

/// What a command makes happen, event by event.
struct Story {
    order: Order,
    events: Vec<Event>,
}

impl Story {
    fn goes_on(&mut self, event: Event) {
        self.order = evolve(self.order.id, Some(self.order.clone()), &event);
        self.events.push(event);
    }

    fn cancel(&mut self, at: OffsetDateTime) -> Result<(), Refused> {
        let fetched = self.order.shipment.as_ref().is_some_and(|shipment| shipment.ship_time <= at);
        match self.order.status {
            Status::Pending | Status::StockReserved => {}
            Status::Confirmed if !fetched => {}
            Status::Compensating | Status::Cancelled => return Ok(()),
            Status::Paid | Status::Confirmed | Status::Rejected | Status::NeedsAttention => {
                return Err(Refused::NotCancellable);
            }
        }
        self.undo(Reason::CancelledByCustomer, Outcome::Cancelled, false);
        Ok(())
    }

    fn undo(&mut self, reason: Reason, outcome: Outcome, payment_failed: bool) {
        self.goes_on(Event::CompensationStarted { reason, outcome, payment_failed });
        self.ends_if_nothing_is_owed();
    }

    fn ends_if_nothing_is_owed(&mut self) {
        if self.order.is_owed() || !matches!(self.order.status, Status::Compensating | Status::NeedsAttention)
        {
            return;
        }
        let reason = self.order.reason.unwrap_or(Reason::CancelledByOperator);
        match self.order.outcome {
            Some(Outcome::Rejected) => self.goes_on(Event::OrderRejected { reason }),
            Some(Outcome::Cancelled) => self.goes_on(Event::OrderCancelled { reason }),
            None => {}
        }
    }

    fn deadline_passes(&mut self) {
        let otherwise = match self.order.waits_for() {
            None => return,
            // Something came that nobody had asked for, and cannot be given back: such an order is not gone on with.
            Some(Wait::Compensation)
                if matches!(self.order.status, Status::Pending | Status::StockReserved) =>
            {
                Otherwise::Undo(Reason::CompensationOverdue)
            }
            Some(Wait::Compensation) => Otherwise::Insist(Reason::CompensationOverdue),
            Some(_) => match self.order.step() {
                None => return,
                Some(step) => step.otherwise,
            },
        };
        match otherwise {
            Otherwise::Undo(reason) => self.undo(reason, Outcome::Rejected, false),
            Otherwise::Insist(_) if self.order.repeats < REPEATS => self.goes_on(Event::RequestsRepeated {}),
            Otherwise::Insist(reason) => self.goes_on(Event::AttentionNeeded { reason }),
        }
    }

    fn resolve(&mut self, resolution: Resolution, reason: String) -> Result<(), Refused> {
        if self.order.status != Status::NeedsAttention {
            return Err(Refused::NotResolvable);
        }
        let owed = self.order.is_owed();
        self.goes_on(Event::OrderResolved { resolution, reason });
        match resolution {
            Resolution::Retry => self.goes_on(Event::RequestsRepeated {}),
            Resolution::Cancel => {
                self.undo(Reason::CancelledByOperator, Outcome::Cancelled, false);
                if owed {
                    self.goes_on(Event::RequestsRepeated {});
                }
            }
            Resolution::Close => {
                self.goes_on(Event::OrderCancelled { reason: Reason::CancelledByOperator });
            }
        }
        Ok(())
    }
}
