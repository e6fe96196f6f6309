//! A batch of `stock-requests` with a handful of statements: what its orders hold is locked, then the stock that they may
//! touch, then every command is decided in memory, and each row is written once.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use consumer::{HandleError, Message};
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Effect, advance, answer::tell, first_version, log_change, refuse, request::Request};
use crate::{
    domain::{Answer, Command, Item, Ledger, ProductId, Reservation, State, Taken, Units, decide},
    store::{reservations, stock},
};

/// The reservations of a batch: each with the version that the database has of it, none where it is new.
type Held = BTreeMap<Uuid, (Option<i32>, Reservation)>;

/// What one command has led to.
struct Outcome<'m> {
    message: &'m Message,
    /// None where the reservation is new.
    before: Option<State>,
    /// As this command left it.
    reservation: Reservation,
    answer: Answer,
}

/// Does what the commands would do one after the other. None where units must be fetched from other buckets: then nothing
/// has been written, and the records are to be handled one by one.
///
/// # Errors
/// `RowNotFound` where somebody else has made or changed one of the reservations meanwhile.
pub(super) async fn handle<'m>(
    connection: &mut PgConnection,
    messages: &[&'m Message],
) -> Result<Option<Vec<(&'m Message, Effect)>>, HandleError> {
    let now = OffsetDateTime::now_utc();
    let mut requests = Vec::with_capacity(messages.len());
    for message in messages {
        if let Some(request) = Request::parse(message, now)? {
            requests.push((*message, request));
        }
    }
    let mut held = lock(connection, &requests).await?;
    let mut ledger = stock::lock_places(connection, places(&requests, &held)).await?;
    let scarce = ledger.scarce(to_take(&requests, &held));
    if !scarce.is_empty() {
        for seen in stock::see(connection, &scarce).await? {
            ledger.note(&seen.product_id, seen.bucket, seen.available);
        }
    }
    let Some(outcomes) = decide_all(requests, &mut held, &mut ledger, now)? else {
        return Ok(None);
    };
    write(connection, &held, ledger).await?;
    outcomes.iter().map(report).collect::<Result<_, _>>().map(Some)
}

/// What the orders of a batch hold already.
async fn lock(connection: &mut PgConnection, requests: &[(&Message, Request)]) -> sqlx::Result<Held> {
    let order_ids: BTreeSet<Uuid> = requests.iter().map(|(_, request)| request.order_id).collect();
    let order_ids: Vec<Uuid> = order_ids.into_iter().collect();
    let existing = reservations::lock_all(connection, &order_ids).await?;
    Ok(existing.into_iter().map(|held| (held.order_id, (Some(held.version), held))).collect())
}

/// What new orders may take, and from which bucket.
fn to_take<'r>(requests: &'r [(&Message, Request)], held: &Held) -> impl Iterator<Item = (i16, &'r [Item])> {
    let new = requests.iter().map(|(_, request)| request);
    let new = new.filter(|request| request.command == Command::Reserve { expired: false });
    let new = new.filter(|request| !held.contains_key(&request.order_id));
    new.map(|request| (request.bucket, request.items.as_slice()))
}

/// The buckets that may be touched: those that new orders take from, and those that old ones give back to or ship from.
fn places<'r>(requests: &'r [(&Message, Request)], held: &'r Held) -> HashSet<(&'r ProductId, i16)> {
    let settled = requests.iter().filter(|(_, request)| !matches!(request.command, Command::Reserve { .. }));
    let settled = settled.filter_map(|(_, request)| held.get(&request.order_id));
    let settled = settled.filter(|(_, held)| matches!(held.state, State::Reserved | State::Committed));
    let settled = settled.map(|(_, held)| (held.bucket, held.items.as_slice()));
    let touched = to_take(requests, held).chain(settled);
    touched.flat_map(|(bucket, items)| items.iter().map(move |item| (&item.product_id, bucket))).collect()
}

/// Carries out every command in memory; none where an order needs units of other buckets.
fn decide_all<'m>(
    requests: Vec<(&'m Message, Request)>,
    held: &mut Held,
    ledger: &mut Ledger,
    now: OffsetDateTime,
) -> Result<Option<Vec<Outcome<'m>>>, HandleError> {
    let mut outcomes = Vec::with_capacity(requests.len());
    for (message, request) in requests {
        let outcome = if let Some((_, reservation)) = held.get_mut(&request.order_id) {
            request.check_items(reservation)?;
            let before = Some(reservation.state);
            let (moved, answer) = advance(reservation, request.command, now);
            if let Some(moved) = moved {
                let settled = ledger.settle(reservation.bucket, &reservation.items, moved);
                // As where the statement for one reservation does not find them.
                settled.map_err(|_| sqlx::Error::RowNotFound)?;
            }
            Outcome { message, before, reservation: reservation.clone(), answer }
        } else {
            let step = decide(None, request.command);
            let (mut reservation, mut answer) = (first_version(&request, step.to), step.answer);
            if step.units == Units::Take {
                match ledger.take(request.bucket, &request.items) {
                    Taken::All => {}
                    Taken::Refused(refusal) => answer = refuse(&mut reservation, refusal),
                    Taken::Elsewhere => return Ok(None),
                }
            }
            held.insert(request.order_id, (None, reservation.clone()));
            Outcome { message, before: None, reservation, answer }
        };
        outcomes.push(outcome);
    }
    Ok(Some(outcomes))
}

/// Each row once, as the last command has left it.
async fn write(connection: &mut PgConnection, held: &Held, ledger: Ledger) -> sqlx::Result<()> {
    let new: Vec<&Reservation> =
        held.values().filter(|(version, _)| version.is_none()).map(|(_, new)| new).collect();
    if !new.is_empty() {
        reservations::insert_all(connection, &new).await?;
    }
    // A reservation is there because a command of the batch is about it, and each command makes a version.
    let changed = held.values().filter_map(|(version, changed)| Some(((*version)?, changed)));
    let (versions, changed): (Vec<i32>, Vec<&Reservation>) = changed.unzip();
    if !changed.is_empty() {
        reservations::save_all(connection, &versions, &changed).await?;
    }
    let moves = ledger.moves();
    if !moves.is_empty() {
        stock::move_units(connection, &moves).await?;
    }
    Ok(())
}

/// What the saga is told, in the trace of its command.
fn report<'m>(outcome: &Outcome<'m>) -> Result<(&'m Message, Effect), HandleError> {
    let Outcome { message, before, reservation, answer } = outcome;
    let _entered = message.span().entered();
    if let Some(before) = before {
        log_change(*before, reservation);
    }
    let state = (*before != Some(reservation.state)).then_some(reservation.state);
    Ok((message, (tell(reservation, *answer)?, state)))
}
