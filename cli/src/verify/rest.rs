//! Waits until nothing moves: every saga has ended, every outbox is published, every group has read its topic.
//!
//! The parts are asked one after the other, so one look proves nothing: two looks in a row must find everything at rest
//! and the ends of all topics where they were.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use rdkafka::consumer::BaseConsumer;
use sqlx::{PgPool, Row as _, postgres::PgRow};
use uuid::Uuid;

use super::{
    collect::{self, Databases, topics},
    facts::{Group, Topic},
    report::Invariant,
};
use crate::platform::{Database, Platform};

/// How often the parts are asked.
const INTERVAL: Duration = Duration::from_millis(250);

/// The name of the invariant.
pub(super) const NAME: &str = "at-rest";

/// What one look has found.
#[derive(Debug)]
pub(super) struct Look {
    /// Everything that has not settled.
    pub(super) invariant: Invariant,
    /// Whether no record is on its way: outboxes are published and topics read.
    pub(super) delivered: bool,
    /// In short, for people who wait.
    pub(super) summary: String,
    ends: BTreeMap<(Topic, i32), i64>,
}

/// Asks the parts.
pub(super) struct Watch<'a> {
    databases: &'a Databases,
    groups: Arc<Vec<(Group, BaseConsumer)>>,
    prefix: String,
}

impl<'a> Watch<'a> {
    pub(super) fn new(platform: &Platform, databases: &'a Databases) -> anyhow::Result<Self> {
        let groups = Arc::new(topics::groups(platform.kafka(), platform.prefix())?);
        Ok(Self { databases, groups, prefix: platform.prefix().to_owned() })
    }

    /// Looks until everything is at rest or `settle` has passed; the last look tells which.
    ///
    /// # Errors
    /// When a part still does not answer at the end of that time.
    pub(super) async fn settle(
        &self,
        settle: Duration,
        mut progress: impl FnMut(&str),
    ) -> anyhow::Result<Look> {
        let deadline = Instant::now() + settle;
        let mut before: Option<Look> = None;
        loop {
            let late = Instant::now() >= deadline;
            match self.look().await {
                Ok(mut look) if look.invariant.broken == 0 => {
                    match &before {
                        Some(before) if before.still(&look) => return Ok(look),
                        Some(_) if late => {
                            look.invariant.offend("topics", "are still being written to");
                            look.delivered = false;
                            return Ok(look);
                        }
                        _ => before = Some(look),
                    }
                    // The second look comes at once.
                    continue;
                }
                Ok(look) if late => return Ok(look),
                Ok(look) => {
                    progress(&look.summary);
                    before = None;
                }
                // Parts may be restarting.
                Err(error) if late => return Err(error),
                Err(error) => {
                    progress(&error.to_string());
                    before = None;
                }
            }
            tokio::time::sleep(INTERVAL).await;
        }
    }

    /// One look at every part.
    pub(super) async fn look(&self) -> anyhow::Result<Look> {
        let mut invariant = Invariant::new(NAME);
        let mut counts = Vec::new();
        for (database, pool) in self.databases.all() {
            if let Some((sql, noun)) = unfinished(database) {
                counts.push((open(database, pool, sql, &mut invariant).await?, noun));
            }
            if database == Database::Billing {
                counts.push((self.payments(pool, &mut invariant).await?, "open payments"));
            }
            let replays = open(database, pool, REPLAYS, &mut invariant).await?;
            counts.push((replays, "running replays"));
        }
        let mut unpublished = 0;
        for (database, pool) in self.databases.all() {
            unpublished += outbox(database, pool, &mut invariant).await?;
        }
        let (unread, ends) = self.groups(&mut invariant).await?;
        counts.extend([(unpublished, "unpublished events"), (unread, "unread records")]);
        let open: Vec<String> = counts
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{count} {what}"))
            .collect();
        let delivered = unpublished == 0 && unread == 0;
        let summary = format!("waiting for {}", open.join(", "));
        if invariant.broken > 0 {
            invariant.note(open.join(", "));
        }
        Ok(Look { invariant, delivered, summary, ends })
    }

    /// The provider may never answer: what an operator answers for is not waited for.
    async fn payments(&self, billing: &PgPool, invariant: &mut Invariant) -> anyhow::Result<i64> {
        let payments = sqlx::query(OPEN_PAYMENTS)
            .fetch_all(billing)
            .await
            .map_err(|error| unanswered(Database::Billing, error))?;
        let orders: Vec<Uuid> =
            payments.iter().map(|row| row.try_get("order_id")).collect::<Result<_, _>>()?;
        let mut operators: HashSet<Uuid> = HashSet::new();
        let ask = self.databases.all().filter(|(database, _)| *database == Database::Order);
        for (database, pool) in ask.filter(|_| !orders.is_empty()) {
            let answered = sqlx::query_scalar::<_, Uuid>(OPERATORS).bind(&orders).fetch_all(pool).await;
            operators.extend(answered.map_err(|error| unanswered(database, error))?);
        }
        let (mut total, mut named) = (0, 0);
        for (row, _) in payments.iter().zip(&orders).filter(|(_, order)| !operators.contains(*order)) {
            total += 1;
            if named < NAMED {
                offend(row, invariant)?;
                named += 1;
            }
        }
        count_rest(invariant, total, named);
        Ok(total)
    }

    async fn groups(&self, invariant: &mut Invariant) -> anyhow::Result<(i64, BTreeMap<(Topic, i32), i64>)> {
        let (groups, prefix) = (Arc::clone(&self.groups), self.prefix.clone());
        let asked = tokio::task::spawn_blocking(move || {
            let (mut lags, mut ends) = (Vec::new(), BTreeMap::new());
            let any = groups.first().map(|(_, client)| client);
            // The ends first: a commit can only come nearer to an end that was read before it.
            for (&topic, client) in Topic::ALL.iter().zip(std::iter::repeat(any).flatten()) {
                let name = format!("{prefix}{topic}");
                let watermarks = topics::watermarks(client, &name)?;
                for (group, client) in groups.iter().filter(|(group, _)| group.topics().contains(&topic)) {
                    lags.push((*group, topic, topics::lag(client, &name, &watermarks)?));
                }
                ends.extend(watermarks.into_iter().map(|(partition, (_, high))| ((topic, partition), high)));
            }
            anyhow::Ok((lags, ends))
        });
        let (lags, ends) = asked.await??;
        for (group, topic, lag) in lags.iter().filter(|(_, _, lag)| *lag > 0) {
            invariant
                .offend(format_args!("group {group}"), format_args!("has not read {lag} records of {topic}"));
        }
        invariant.checked += lags.len() as u64;
        Ok((lags.iter().map(|(_, _, lag)| lag).sum(), ends))
    }
}

impl Drop for Watch<'_> {
    /// A client takes a tenth of a second to leave; all do so at the same time.
    fn drop(&mut self) {
        let groups = Arc::get_mut(&mut self.groups).map(std::mem::take).unwrap_or_default();
        thread::scope(|scope| {
            for group in groups {
                scope.spawn(move || drop(group));
            }
        });
    }
}

impl Look {
    /// Whether nothing was published between two looks.
    pub(super) fn still(&self, later: &Self) -> bool {
        self.ends == later.ends
    }
}

/// Dead letters on their way.
const REPLAYS: &str =
    "select 'replay' as what, id, state as status, count(*) over () as total from inbox.replay
     where state = 'running' order by id limit 100";

/// Payments that the provider owes an answer for; an index has them, and no others.
const OPEN_PAYMENTS: &str = "select 'payment' as what, payment_id as id, order_id, status from payments
     where status in ('PENDING', 'REFUNDING') order by payment_id";

/// Which of these orders an operator is to decide about, or has closed.
const OPERATORS: &str =
    "select order_id from orders where order_id = any($1::uuid[]) and status = 'NEEDS_ATTENTION'
     union
     select order_id from order_events
     where order_id = any($1::uuid[]) and event = 'OrderResolved' and data->>'resolution' = 'CLOSE'";

/// Payments that are named as open; all are counted.
const NAMED: usize = 100;

/// What moves in a database before it comes to its end, and what to call it.
fn unfinished(database: Database) -> Option<(&'static str, &'static str)> {
    match database {
        // Whoever needs an operator waits for nothing else. All others wait until a deadline: an index finds them.
        Database::Order => Some((
            "select 'order' as what, order_id as id, count(*) over () as total,
                format('%s, its stock %s, its payment %s', status, stock, payment) as status
             from orders
             where status in ('PENDING', 'STOCK_RESERVED', 'PAID', 'COMPENSATING')
                 or deadline is not null and status <> 'NEEDS_ATTENTION'
                     and (status = 'CONFIRMED' and stock not in ('SHIPPED', 'NOT_WANTED', 'FREE')
                         or stock = 'RELEASING' or payment = 'REFUNDING')
             order by order_id limit 100",
            "open orders",
        )),
        // Only the saga ends a reservation, however long it takes, and so long its order is open.
        Database::Inventory => None,
        // Together with what the order database says of them.
        Database::Billing => None,
        // What was given up is not tried again.
        Database::Notification => Some((
            "select 'notification' as what, notification_id as id, status, count(*) over () as total
             from notifications where status = 'PENDING' order by notification_id limit 100",
            "undelivered notifications",
        )),
    }
}

/// What has not come to its end in a database. Counted in full, named up to a bound.
async fn open(
    database: Database,
    pool: &PgPool,
    sql: &'static str,
    invariant: &mut Invariant,
) -> anyhow::Result<i64> {
    let rows = sqlx::query(sql).fetch_all(pool).await.map_err(|error| unanswered(database, error))?;
    for row in &rows {
        offend(row, invariant)?;
    }
    let total = rows.first().map_or(Ok(0), |row| row.try_get("total"))?;
    count_rest(invariant, total, rows.len());
    Ok(total)
}

fn offend(row: &PgRow, invariant: &mut Invariant) -> Result<(), sqlx::Error> {
    let (what, id, status): (&str, Uuid, &str) =
        (row.try_get("what")?, row.try_get("id")?, row.try_get("status")?);
    invariant.offend(format_args!("{what} {id}"), format_args!("is still {status}"));
    Ok(())
}

async fn outbox(database: Database, pool: &PgPool, invariant: &mut Invariant) -> anyhow::Result<i64> {
    // Everything below xmin is visible in the snapshot; saying so lets the index skip what is published.
    let rows = sqlx::query(
        "select e.id, e.topic, e.event_id, count(e.id) over () as total
         from outbox.cursor c left join outbox.event e
             on e.xid >= pg_snapshot_xmin(c.snap) and not pg_visible_in_snapshot(e.xid, c.snap)
         where c.name = 'main' order by e.id limit 100",
    )
    .fetch_all(pool)
    .await
    .map_err(|error| unanswered(database, error))?;
    let service = database.service();
    anyhow::ensure!(
        !rows.is_empty(),
        "the {service} outbox has lost its cursor, so nobody knows what is published; restore outbox.cursor"
    );
    let mut named = 0;
    for row in &rows {
        // Without one the cursor stands alone: everything is published.
        let Some(id) = row.try_get::<Option<i64>, _>("id")? else { continue };
        let (topic, event): (&str, Option<Uuid>) = (row.try_get("topic")?, row.try_get("event_id")?);
        let event = event.map_or_else(|| "without an id".to_owned(), |event| event.to_string());
        invariant.offend(
            format_args!("event {event} (row {id} of the {service} outbox)"),
            format_args!("is not published to {topic}"),
        );
        named += 1;
    }
    let total = rows.first().map_or(Ok(0), |row| row.try_get("total"))?;
    count_rest(invariant, total, named);
    invariant.checked += 1;
    Ok(total)
}

fn count_rest(invariant: &mut Invariant, total: i64, named: usize) {
    invariant.broken += u64::try_from(total).unwrap_or(0).saturating_sub(named as u64);
    invariant.checked += 1;
}

fn unanswered(database: Database, error: sqlx::Error) -> anyhow::Error {
    anyhow::Error::from(error).context(collect::unreadable(database))
}
