//! Inventory: the rules of its domain over stock without buckets.

use inventory::domain::{Answer, Command, Rejection, State, Units, decide};

use super::Sabotage;

/// The stock of one product.
#[derive(Clone, Copy, Debug)]
pub struct Shelf {
    pub initial: i64,
    pub available: i64,
    pub reserved: i64,
    /// The product is not in the catalogue any more.
    pub archived: bool,
}

/// What one order holds of one product.
#[derive(Clone, Copy, Debug)]
pub struct Hold {
    pub state: Option<State>,
    pub product: usize,
    pub units: i64,
}

impl Hold {
    /// Lets a command take effect, and answers it.
    pub fn take(&mut self, shelves: &mut [Shelf], command: Command, sabotage: Sabotage) -> Answer {
        let shelf = &mut shelves[self.product];
        let mut before = self.state;
        if sabotage == Sabotage::ReserveReleased
            && before == Some(State::Released)
            && matches!(command, Command::Reserve { .. })
        {
            before = None;
        }
        let mut step = decide(before, command);
        match step.units {
            Units::Stay => {}
            Units::Take => {
                let short = shelf.available < self.units;
                let rejection = match shelf.archived {
                    true => Some(Rejection::NotSold),
                    false => short.then_some(Rejection::OutOfStock),
                };
                match rejection {
                    Some(rejection) => {
                        step.to = State::Rejected(Some(rejection));
                        step.answer = Answer::Rejected(rejection);
                    }
                    None => {
                        shelf.available -= self.units;
                        shelf.reserved += self.units;
                    }
                }
            }
            Units::Ship => shelf.reserved -= self.units,
            Units::PutBack => {
                shelf.reserved -= self.units;
                shelf.available += self.units;
            }
            Units::Return => shelf.available += self.units,
        }
        self.state = Some(step.to);
        step.answer
    }
}
