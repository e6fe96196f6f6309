//! Orders that share stock, everything that happens to them, and the books at the end.

use std::collections::HashSet;

use billing::domain::Failure;
use inventory::domain::{Answer, Command as StockCommand, Rejection, State};
use order::domain::{Command, Event, Reason, Request, Resolution, Shipment, Status, Stock};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use super::{
    Sabotage,
    orderer::Kept,
    payer::{Bill, Call, Told},
    queue::Queue,
    stocker::{Hold, Shelf},
};

/// More rounds than this to come to rest are a loop.
const ROUNDS: usize = 200;
/// In minor units, of one.
const PRICE: i64 = 100;

/// One order with everything that anybody has of it.
struct Life {
    kept: Kept,
    hold: Hold,
    bill: Bill,
    stock_requests: Queue<Request>,
    stock_results: Queue<Answer>,
    payment_requests: Queue<Request>,
    payment_results: Queue<Told>,
    /// Old answers have come again, which can be taken for new ones.
    misled: bool,
}

/// How likely each thing is for a while; what has 0 is down, or leaves the orders in peace.
struct Weather {
    inventory: u32,
    stock_results: u32,
    billing: u32,
    payment_results: u32,
    provider: u32,
    deadlines: u32,
    customers: u32,
    operators: u32,
    repeats: u32,
    accidents: u32,
}

impl Weather {
    const FAIR: Self = Self {
        inventory: 10,
        stock_results: 10,
        billing: 10,
        payment_results: 10,
        provider: 10,
        deadlines: 0,
        customers: 0,
        operators: 1,
        repeats: 1,
        accidents: 0,
    };

    fn draw(random: &mut StdRng) -> Self {
        let mut of = |choices: [u32; 4]| choices[random.random_range(0..4)];
        Self {
            inventory: of([0, 2, 10, 10]),
            stock_results: of([0, 2, 10, 10]),
            billing: of([0, 2, 10, 10]),
            payment_results: of([0, 2, 10, 10]),
            provider: of([0, 2, 10, 10]),
            deadlines: of([0, 0, 1, 10]),
            customers: of([0, 0, 1, 2]),
            operators: of([0, 1, 1, 2]),
            repeats: of([0, 0, 1, 2]),
            accidents: of([0, 0, 0, 1]),
        }
    }
}

/// What happens next to an order.
#[derive(Clone, Copy, Debug)]
enum Happening {
    Inventory,
    StockResult,
    Billing,
    PaymentResult,
    Claim,
    Call,
    Answer,
    Lost,
    Deadline,
    Cancel,
    Resolve(Resolution),
    StartOver,
    Again,
    HourPasses,
    LostReservation,
}

pub struct World {
    random: StdRng,
    sabotage: Sabotage,
    weather: Weather,
    now: OffsetDateTime,
    shelves: Vec<Shelf>,
    lives: Vec<Life>,
    seen: HashSet<String>,
    /// What has happened to whom; nothing is when the world comes to rest.
    story: Vec<Option<(usize, Happening)>>,
}

impl World {
    pub fn new(seed: u64, sabotage: Sabotage) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let shelves = (0..2).map(|_| {
            let initial = random.random_range(0..10);
            Shelf { initial, available: initial, reserved: 0, archived: random.random_bool(0.05) }
        });
        let shelves: Vec<Shelf> = shelves.collect();
        let lives = (1..=random.random_range(1..=4)).map(|number| {
            let (product, units) = (random.random_range(0..shelves.len()), random.random_range(1..=3));
            // Some are from before there was stock.
            let (kept, asked) = Kept::place(number, units, random.random_bool(0.95));
            let mut life = Life {
                kept,
                hold: Hold { state: None, product, units },
                bill: Bill { expires: random.random_bool(0.05), ..Bill::new(units * PRICE) },
                stock_requests: Queue::new(),
                stock_results: Queue::new(),
                payment_requests: Queue::new(),
                payment_results: Queue::new(),
                misled: false,
            };
            life.ask(asked.into_iter().filter(|request| sabotage != Sabotage::Forget(*request)).collect());
            life
        });
        let lives: Vec<Life> = lives.collect();
        let weather = if random.random_bool(0.5) { Weather::FAIR } else { Weather::draw(&mut random) };
        let now = OffsetDateTime::UNIX_EPOCH;
        Self { random, sabotage, weather, now, shelves, lives, seen: HashSet::new(), story: Vec::new() }
    }

    /// Lives through the schedule; says what is wrong.
    pub fn live(&mut self) -> Result<(), String> {
        for _ in 0..self.random.random_range(20..200) {
            if self.random.random_bool(0.02) {
                self.weather = Weather::draw(&mut self.random);
            }
            let which = self.random.random_range(0..self.lives.len());
            let happening = self.next(which);
            self.happen(which, happening)?;
        }
        self.story.push(None);
        self.rest()?;
        self.check_books()?;
        // Whatever waits for an operator has one: first it is tried again, then it is undone.
        for resolution in [Resolution::Retry, Resolution::Cancel] {
            for which in 0..self.lives.len() {
                if self.lives[which].kept.order.status == Status::NeedsAttention {
                    self.happen(which, Happening::Resolve(resolution))?;
                }
            }
            self.rest()?;
            self.check_books()?;
        }
        let endless = self.lives.iter().find(|life| !life.kept.order.is_at_its_end());
        endless.map_or(Ok(()), |life| Err(format!("never ends: {:?}", life.kept.order)))
    }

    /// What has come by.
    pub fn seen(&self) -> HashSet<String> {
        let mut seen = self.seen.clone();
        for life in &self.lives {
            let order = &life.kept.order;
            let reason = order.reason.map(|reason| format!(" {reason:?}")).unwrap_or_default();
            seen.insert(format!("ends {:?}{reason}", order.status));
            for event in &life.kept.events {
                seen.insert(match event {
                    Event::AttentionNeeded { reason } => format!("AttentionNeeded {reason:?}"),
                    Event::OrderResolved { resolution, .. } => format!("OrderResolved {resolution:?}"),
                    event => event.name().to_owned(),
                });
            }
        }
        seen
    }

    /// What has happened, for people.
    pub fn told(&self) -> String {
        let mut told = String::new();
        for happened in &self.story {
            told += &happened
                .map_or("comes to rest\n".into(), |(which, happening)| format!("{which}: {happening:?}\n"));
        }
        for (which, Life { kept, hold, bill, .. }) in self.lives.iter().enumerate() {
            let names: Vec<&str> = kept.events.iter().map(Event::name).collect();
            told += &format!("{which}: {names:?}\n  {:?}\n  {hold:?}\n  {bill:?}\n", kept.order);
        }
        told
    }

    /// Draws what happens next.
    fn next(&mut self, which: usize) -> Happening {
        let Weather {
            inventory, billing, provider, deadlines, customers, operators, repeats, accidents, ..
        } = self.weather;
        let parked = self.lives[which].kept.order.status == Status::NeedsAttention;
        let operators = if parked { operators * 3 } else { operators.min(1) };
        let table = [
            (Happening::Inventory, inventory * 3),
            (Happening::StockResult, self.weather.stock_results * 3),
            (Happening::Billing, billing * 3),
            (Happening::PaymentResult, self.weather.payment_results * 3),
            (Happening::Claim, billing * 3),
            (Happening::Call, provider * 3),
            (Happening::Answer, provider * 3),
            (Happening::Lost, provider),
            (Happening::Deadline, deadlines * 6),
            (Happening::Cancel, customers),
            (Happening::Resolve(Resolution::Retry), operators),
            (Happening::Resolve(Resolution::Cancel), operators),
            (Happening::Resolve(Resolution::Close), operators),
            (Happening::StartOver, repeats * 2),
            (Happening::Again, repeats * 2),
            (Happening::HourPasses, 3),
            (Happening::LostReservation, accidents),
        ];
        let mut left = self.random.random_range(0..table.iter().map(|(_, weight)| weight).sum());
        for (happening, weight) in table {
            if left < weight {
                return happening;
            }
            left -= weight;
        }
        Happening::HourPasses
    }

    fn happen(&mut self, which: usize, happening: Happening) -> Result<(), String> {
        self.story.push(Some((which, happening)));
        match happening {
            Happening::Inventory => self.inventory(which),
            Happening::StockResult => return self.stock_result(which),
            Happening::Billing => self.billing(which),
            Happening::PaymentResult => return self.payment_result(which),
            Happening::Claim => {
                let bill = &mut self.lives[which].bill;
                // A lease outlived makes two calls at a time, and no more.
                if bill.is_owed() && bill.calls.len() + bill.answers.len() < 2 {
                    let told = bill.claim();
                    self.tell(which, told);
                }
            }
            Happening::Call => self.call(which),
            Happening::Answer => {
                let life = &mut self.lives[which];
                if !life.bill.answers.is_empty() {
                    let answer =
                        life.bill.answers.remove(self.random.random_range(0..life.bill.answers.len()));
                    let doubt = life.bill.payment.as_ref().is_some_and(|payment| payment.refund_requested);
                    if doubt && matches!(answer, billing::domain::Command::Charged { .. }) {
                        self.seen.insert("a charge in doubt is refunded".into());
                    }
                    let mut told = life.bill.settle(&answer);
                    told.extend(life.bill.settle(&answer));
                    self.tell(which, told);
                }
            }
            Happening::Lost => {
                let bill = &mut self.lives[which].bill;
                // Billing asks again, as long as it has not heard a refusal.
                if !bill.has_failed() {
                    bill.answers.pop();
                }
            }
            Happening::Deadline => return self.order(which, Command::DeadlinePassed),
            Happening::Cancel => return self.order(which, Command::Cancel { at: self.now }),
            Happening::Resolve(resolution) => return self.resolve(which, resolution),
            Happening::StartOver => {
                let back = self.random.random_range(1..5);
                let life = &mut self.lives[which];
                life.stock_requests.rewind(back);
                life.stock_results.rewind(back);
                life.payment_requests.rewind(back);
                life.payment_results.rewind(back);
                self.seen.insert("a consumer starts over".into());
            }
            Happening::Again => {
                let which_record = self.random.random_range(0..100);
                let life = &mut self.lives[which];
                let again = match self.random.random_range(0..4) {
                    0 => life.stock_requests.republish(which_record),
                    1 => life.stock_results.republish(which_record),
                    2 => life.payment_requests.republish(which_record),
                    _ => life.payment_results.republish(which_record),
                };
                if again {
                    life.misled = true;
                    self.seen.insert("a record comes again days later".into());
                }
            }
            Happening::HourPasses => self.now += Duration::hours(self.random.random_range(1..12)),
            Happening::LostReservation => {
                let (hold, shelves) = (&mut self.lives[which].hold, &mut self.shelves);
                if hold.state == Some(State::Reserved) {
                    hold.take(shelves, StockCommand::Release, self.sabotage);
                    self.seen.insert("inventory loses a reservation".into());
                }
            }
        }
        Ok(())
    }

    /// Inventory handles its next record.
    fn inventory(&mut self, which: usize) {
        let life = &mut self.lives[which];
        let Some(Some(request)) = life.stock_requests.take() else { return };
        let command = match request {
            Request::ReserveStock => StockCommand::Reserve { expired: self.random.random_bool(0.05) },
            Request::CommitStock => StockCommand::Commit,
            Request::ReleaseStock => StockCommand::Release,
            Request::TakePayment | Request::RefundPayment => return,
        };
        if command == StockCommand::Release && life.hold.state == Some(State::Committed) {
            self.seen.insert("a shipment is called off".into());
        }
        // Twice, as two events that mean the same.
        for _ in 0..2 {
            let answer = life.hold.take(&mut self.shelves, command, self.sabotage);
            life.stock_results.push(answer);
        }
    }

    /// The order service handles inventory's next answer.
    fn stock_result(&mut self, which: usize) -> Result<(), String> {
        let Some(Some(answer)) = self.lives[which].stock_results.take() else { return Ok(()) };
        let command = match answer {
            Answer::Reserved => Command::StockReserved,
            Answer::Rejected(Rejection::OutOfStock) => Command::StockRejected(Reason::OutOfStock),
            Answer::Rejected(Rejection::NotSold) => Command::StockRejected(Reason::NotSold),
            Answer::Rejected(Rejection::Expired) => Command::StockRejected(Reason::StockExpired),
            Answer::Released => Command::StockReleased,
            Answer::Shipped => Command::ShipmentScheduled(Shipment {
                shipment_id: Uuid::from_u128(1),
                carrier: "Simulated Parcel Line".into(),
                ship_time: self.now + Duration::hours(self.random.random_range(1..24)),
            }),
            Answer::CommitFailed => Command::CommitFailed,
        };
        self.order(which, command)
    }

    /// Billing handles its next record.
    fn billing(&mut self, which: usize) {
        let life = &mut self.lives[which];
        let Some(Some(request)) = life.payment_requests.take() else { return };
        let expired = self.random.random_bool(0.05);
        for _ in 0..2 {
            let told = match request {
                Request::TakePayment => life.bill.requested(expired),
                Request::RefundPayment => life.bill.refund_requested(self.sabotage),
                Request::ReserveStock | Request::CommitStock | Request::ReleaseStock => vec![],
            };
            if told.contains(&Told::Refunded(0)) {
                self.seen.insert("a refund finds nothing".into());
            }
            for told in told {
                life.payment_results.push(told);
            }
        }
    }

    /// The order service handles billing's next answer.
    fn payment_result(&mut self, which: usize) -> Result<(), String> {
        let Some(Some(told)) = self.lives[which].payment_results.take() else { return Ok(()) };
        let command = match told {
            Told::Succeeded => Command::PaymentSucceeded,
            Told::Failed(Failure::Declined) => Command::PaymentFailed(Reason::PaymentDeclined),
            Told::Failed(Failure::InsufficientFunds) => Command::PaymentFailed(Reason::InsufficientFunds),
            Told::Failed(Failure::Expired) => Command::PaymentFailed(Reason::PaymentExpired),
            Told::Refunded(minor) => Command::PaymentRefunded { minor },
        };
        self.order(which, command)
    }

    /// The provider handles a call, and its answer sets out.
    fn call(&mut self, which: usize) {
        let bill = &mut self.lives[which].bill;
        if bill.calls.is_empty() {
            return;
        }
        let call = bill.calls.remove(self.random.random_range(0..bill.calls.len()));
        let outcome = match self.random.random_range(0..10) {
            0 => Err(Failure::Declined),
            1 => Err(Failure::InsufficientFunds),
            _ => Ok(()),
        };
        if call == Call::Charge && outcome.is_ok() && bill.has_failed() {
            self.seen.insert("the provider charges what it had declined".into());
        }
        bill.provide(call, outcome);
    }

    /// An operator decides; who closes an order has put right by hand what it holds.
    fn resolve(&mut self, which: usize, resolution: Resolution) -> Result<(), String> {
        let life = &mut self.lives[which];
        if resolution == Resolution::Close && life.kept.order.status == Status::NeedsAttention {
            if life.hold.state.is_some() {
                life.hold.take(&mut self.shelves, StockCommand::Release, self.sabotage);
            }
            let told = life.bill.refund_requested(self.sabotage);
            self.tell(which, told);
        }
        self.order(which, Command::Resolve { resolution, reason: "looked at it".into() })
    }

    /// The order service handles a command, and asks for what follows from it.
    fn order(&mut self, which: usize, command: Command) -> Result<(), String> {
        let life = &mut self.lives[which];
        if let Ok(asked) = life.kept.take(command.clone(), self.sabotage)? {
            life.ask(asked);
        }
        // Said twice, it causes nothing new; only time and operators may say the same and mean more.
        let version = life.kept.order.version;
        if !matches!(command, Command::DeadlinePassed | Command::Resolve { .. }) {
            let _ = life.kept.take(command.clone(), self.sabotage)?;
        }
        if life.kept.order.version != version {
            return Err(format!("{command:?} takes effect twice on order {which}"));
        }
        Ok(())
    }

    fn tell(&mut self, which: usize, told: Vec<Told>) {
        for told in told {
            self.lives[which].payment_results.push(told);
        }
    }

    /// All services are up, and everything is answered that was asked for.
    fn rest(&mut self) -> Result<(), String> {
        for _ in 0..ROUNDS {
            let mut moved = false;
            for which in 0..self.lives.len() {
                let life = &self.lives[which];
                for (busy, happening) in [
                    (!life.stock_requests.is_empty(), Happening::Inventory),
                    (!life.stock_results.is_empty(), Happening::StockResult),
                    (!life.payment_requests.is_empty(), Happening::Billing),
                    (!life.payment_results.is_empty(), Happening::PaymentResult),
                    (life.bill.is_owed(), Happening::Claim),
                    (!life.bill.calls.is_empty(), Happening::Call),
                    (!life.bill.answers.is_empty(), Happening::Answer),
                ] {
                    if busy {
                        moved = true;
                        self.happen(which, happening)?;
                    }
                }
            }
            if !moved {
                return Ok(());
            }
        }
        Err("never comes to rest".into())
    }

    /// What must hold when nothing is on its way.
    fn check_books(&self) -> Result<(), String> {
        for (product, shelf) in self.shelves.iter().enumerate() {
            let units = |state| {
                let holds = self.lives.iter().map(|life| life.hold);
                let of_it = holds.filter(|hold| hold.product == product && hold.state == Some(state));
                of_it.map(|hold| hold.units).sum::<i64>()
            };
            let (reserved, committed) = (units(State::Reserved), units(State::Committed));
            if shelf.available < 0
                || shelf.reserved != reserved
                || shelf.initial != shelf.available + reserved + committed
            {
                return Err(format!(
                    "stock of product {product}: {shelf:?}, {reserved} held, {committed} shipped"
                ));
            }
        }
        self.lives.iter().try_for_each(Life::check)
    }
}

impl Life {
    fn ask(&mut self, requests: Vec<Request>) {
        for request in requests {
            match request {
                Request::ReserveStock | Request::CommitStock | Request::ReleaseStock => {
                    self.stock_requests.push(request);
                }
                Request::TakePayment | Request::RefundPayment => self.payment_requests.push(request),
            }
        }
    }

    fn check(&self) -> Result<(), String> {
        let (order, events) = (&self.kept.order, &self.kept.events);
        let wrong = |what: &str| Err(format!("{what}: {order:?}, {:?}, {:?}", self.hold, self.bill));
        if self.kept.replayed() != *order {
            return wrong("its history makes another order");
        }
        let count = |wanted: &str| events.iter().filter(|event| event.name() == wanted).count();
        if count("OrderConfirmed") > 1 || count("StockReserved") > 1 {
            return wrong("confirmed or charged twice");
        }
        let refunded = self.bill.ledger.refunded;
        let told = events.contains(&Event::PaymentRefunded { minor: refunded });
        if refunded > 0 && !told && !self.misled && !events.iter().any(is_closing) {
            return wrong("refunded, and nobody was told");
        }
        let kept = self.bill.ledger.charged - refunded;
        let (held, shipped) =
            (self.hold.state == Some(State::Reserved), self.hold.state == Some(State::Committed));
        match order.status {
            Status::NeedsAttention if order.attention.is_none() => wrong("parked without a reason"),
            // Inventory has lost what it held, and the customer has paid: nobody but an operator can know what to do.
            Status::NeedsAttention
                if order.stock == Stock::Reserved && self.hold.state == Some(State::Released) =>
            {
                if kept == order.total.minor { Ok(()) } else { wrong("parked and not paid") }
            }
            Status::NeedsAttention => wrong("parked although everything is answered"),
            _ if !order.is_at_its_end() => wrong("waits for an answer to what it never asked"),
            Status::Confirmed if kept != order.total.minor => wrong("confirmed and not paid"),
            Status::Confirmed if held || shipped != (order.stock == Stock::Shipped) => {
                wrong("confirmed and not shipped")
            }
            Status::Confirmed => Ok(()),
            Status::Rejected | Status::Cancelled if held || shipped => wrong("stock leaks"),
            Status::Rejected | Status::Cancelled if kept != 0 => wrong("a charge without an order"),
            Status::Rejected | Status::Cancelled if order.reason.is_none() => wrong("ended without a reason"),
            Status::Rejected | Status::Cancelled => Ok(()),
            Status::Pending | Status::StockReserved | Status::Paid | Status::Compensating => {
                wrong("ended without an outcome")
            }
        }
    }
}

/// From then on the operator answers for what others hold.
fn is_closing(event: &Event) -> bool {
    matches!(event, Event::OrderResolved { resolution: Resolution::Close, .. })
}
