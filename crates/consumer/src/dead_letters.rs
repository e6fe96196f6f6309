//! What an operator does with dead letters: look, replay, discard. `orderly dlq` and the console call it, with a role
//! that may do this and no more.
//!
//! A letter is *parked* when it failed itself, and *held* when it waits behind a parked one of its key. Only what is
//! parked is selected; what waits behind it follows by itself, in order.

use std::time::Duration;

use futures_util::stream::BoxStream;
use outbox::Headers;
use serde::Serialize;
use sqlx::{
    Arguments as _, FromRow, PgConnection, PgPool, Row as _,
    postgres::{PgArguments, PgRow},
};
use time::OffsetDateTime;
use uuid::Uuid;

/// Which letters. What is not given selects all.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// By id; empty for any.
    pub ids: Vec<Uuid>,
    /// The consumer group, with the deployment's prefix.
    pub consumer: Option<String>,
    /// Logical topic.
    pub topic: Option<String>,
    /// Full protobuf name.
    pub event_type: Option<String>,
    /// `poison`, `bug`, `too-old`, `clock` or `undelivered`.
    pub kind: Option<String>,
    /// Of the error, as [`groups`] shows it.
    pub fingerprint: Option<String>,
    /// The record's key.
    pub key: Option<Vec<u8>>,
}

/// Who does something, and why; for the audit.
#[derive(Clone, Copy, Debug)]
pub struct Act<'a> {
    /// A person's name or account.
    pub actor: &'a str,
    /// Their reason.
    pub reason: &'a str,
}

/// Parked letters with the same consumer, topic, event type and error.
#[derive(Clone, Debug, Serialize, FromRow)]
pub struct Group {
    /// The consumer group.
    pub consumer: String,
    /// Logical topic.
    pub topic: String,
    /// Full protobuf name; none where the record says none.
    pub event_type: Option<String>,
    /// See [`crate::Kind`].
    pub kind: String,
    /// The same for errors that differ in numbers and ids only.
    pub fingerprint: String,
    /// The latest of the errors.
    pub error: String,
    /// Parked letters.
    pub parked: i64,
    /// Of them, how many a replay is about to process.
    pub replaying: i64,
    /// Letters that wait behind them.
    pub held: i64,
    /// When the first of them failed first.
    #[serde(with = "time::serde::rfc3339")]
    pub first: OffsetDateTime,
    /// When the last of them failed last.
    #[serde(with = "time::serde::rfc3339")]
    pub last: OffsetDateTime,
}

/// One dead letter.
#[derive(Clone, Debug)]
pub struct Letter {
    /// Its id.
    pub id: Uuid,
    /// The consumer group.
    pub consumer: String,
    /// Logical topic, partition and offset of the record.
    pub place: (String, i32, i64),
    /// The record's key.
    pub key: Option<Vec<u8>>,
    /// The record's headers.
    pub headers: Headers,
    /// The record's value.
    pub payload: Option<Vec<u8>>,
    /// `ce_id`.
    pub event_id: Option<String>,
    /// `ce_source`.
    pub source: Option<String>,
    /// `ce_type`.
    pub event_type: Option<String>,
    /// `parked`, `held`, `replayed` or `discarded`.
    pub state: String,
    /// See [`crate::Kind`]; none of what waits only, as the next two.
    pub kind: Option<String>,
    /// Why it failed last.
    pub error: Option<String>,
    /// Of the error.
    pub fingerprint: Option<String>,
    /// How often its handler was run.
    pub attempts: i32,
    /// How often it was replayed.
    pub replays: i32,
    /// When it failed first.
    pub first_failed_at: Option<OffsetDateTime>,
    /// When it failed last.
    pub last_failed_at: Option<OffsetDateTime>,
    /// When it was parked, or put behind another.
    pub parked_at: OffsetDateTime,
    /// Of the program that it failed in last.
    pub version: Option<String>,
    /// W3C trace id of the record.
    pub trace_id: Option<String>,
    /// The replay that is to process it.
    pub replay: Option<Uuid>,
}

/// What a selection comes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, FromRow)]
pub struct Selection {
    /// Letters that no replay has yet, or one that was stopped.
    pub selected: i64,
    /// Keys that go on when they do.
    pub keys: i64,
    /// Letters that wait behind them.
    pub held: i64,
}

/// How far a replay is.
#[derive(Clone, Debug, Serialize, FromRow)]
pub struct Progress {
    /// Its id.
    pub id: Uuid,
    /// The consumer group.
    pub consumer: String,
    /// Who ordered it.
    pub actor: String,
    /// And why.
    pub reason: String,
    /// `running`, `stopped` or `done`.
    pub state: String,
    /// Why it was stopped.
    pub words: Option<String>,
    /// Records a second.
    pub rate: Option<f64>,
    /// Letters that were selected.
    pub selected: i64,
    /// Letters that took effect, with those that waited behind.
    pub replayed: i64,
    /// Letters that failed again.
    pub dead_again: i64,
    /// Letters still to come, without those that wait behind.
    pub left: i64,
    /// When it was ordered.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// When it was done or stopped.
    #[serde(with = "time::serde::rfc3339::option")]
    pub ended_at: Option<OffsetDateTime>,
}

/// A line of the audit.
#[derive(Clone, Debug, Serialize, FromRow)]
pub struct Entry {
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// Who.
    pub actor: String,
    /// What: `parked`, `held`, `replay`, `replayed`, `dead-again`, `replay-done`, `replay-stopped`, `replay-resumed`,
    /// `discarded`.
    pub action: String,
    /// To which letter.
    pub dead_letter: Option<Uuid>,
    /// By which replay.
    pub replay: Option<Uuid>,
    /// Why.
    pub reason: String,
}

/// What was discarded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Discarded {
    /// Letters.
    pub discarded: i64,
    /// Letters that waited behind them and go on.
    pub released: i64,
}

/// The parked letters in groups, the largest first.
pub async fn groups(pool: &PgPool, filter: &Filter) -> Result<Vec<Group>, sqlx::Error> {
    sqlx::query_as_with(include_str!("sql/operator/letter_groups.sql"), filter.arguments()?)
        .fetch_all(pool)
        .await
}

/// What a selection comes to, before anything is done with it.
pub async fn preview(pool: &PgPool, filter: &Filter) -> Result<Selection, sqlx::Error> {
    sqlx::query_as_with(include_str!("sql/operator/preview.sql"), filter.arguments()?).fetch_one(pool).await
}

/// One letter, in any state.
pub async fn find(pool: &PgPool, id: Uuid) -> Result<Option<Letter>, sqlx::Error> {
    sqlx::query_as("select * from inbox.dead_letter where id = $1").bind(id).fetch_optional(pool).await
}

/// At most `limit` of those that wait behind a letter, in their order.
pub async fn behind(pool: &PgPool, id: Uuid, limit: i64) -> Result<Vec<Letter>, sqlx::Error> {
    sqlx::query_as(
        "select l.* from inbox.dead_letter as l
         join inbox.key_hold as h using (consumer, topic, key_hash)
         where h.head = $1 and l.state = 'held' and l.id <> h.head order by l.seq limit $2",
    )
    .bind(id)
    .bind(limit)
    .fetch_all(pool)
    .await
}

/// What was done with a letter, from the first on.
pub async fn history(pool: &PgPool, id: Uuid) -> Result<Vec<Entry>, sqlx::Error> {
    sqlx::query_as(
        "select at, actor, action, dead_letter, replay, reason from inbox.audit where dead_letter = $1 order by seq",
    )
    .bind(id)
    .fetch_all(pool)
    .await
}

/// Every letter that is selected, also those that a replay is about to process, with what waits behind them; in order.
pub fn letters<'p>(
    pool: &'p PgPool,
    filter: &Filter,
) -> Result<BoxStream<'p, Result<Letter, sqlx::Error>>, sqlx::Error> {
    Ok(sqlx::query_as_with(include_str!("sql/operator/letters.sql"), filter.arguments()?).fetch(pool))
}

/// Orders the selected letters to be processed again, at most `rate` records a second, and returns one replay for each
/// consumer that they belong to. Letters that another replay has are left to it,
/// unless that was stopped.
///
/// The consumers' workers carry it out, whether or not anybody looks on.
pub async fn replay(
    pool: &PgPool,
    filter: &Filter,
    rate: Option<f64>,
    act: Act<'_>,
) -> Result<Vec<Progress>, sqlx::Error> {
    let mut transaction = pool.begin().await?;
    let ids: Vec<Uuid> =
        sqlx::query_scalar_with(include_str!("sql/operator/order_replay.sql"), filter.arguments()?)
            .bind(rate)
            .bind(act.actor)
            .bind(act.reason)
            .fetch_all(&mut *transaction)
            .await?;
    let ordered = progress_of(&mut transaction, &ids).await?;
    transaction.commit().await?;
    Ok(ordered)
}

/// How far these replays are.
pub async fn progress(pool: &PgPool, ids: &[Uuid]) -> Result<Vec<Progress>, sqlx::Error> {
    progress_of(&mut *pool.acquire().await?, ids).await
}

/// The replays that are not done, and those that ended within this time.
pub async fn replays(pool: &PgPool, ended_within: Duration) -> Result<Vec<Progress>, sqlx::Error> {
    let ids: Vec<Uuid> = sqlx::query_scalar(
        "select id from inbox.replay
         where state <> 'done' or ended_at > clock_timestamp() - make_interval(secs => $1)",
    )
    .bind(ended_within.as_secs_f64())
    .fetch_all(pool)
    .await?;
    progress(pool, &ids).await
}

/// The letters that were selected for a replay, not those that waited behind them.
pub async fn selected(pool: &PgPool, replay: Uuid) -> Result<Vec<Uuid>, sqlx::Error> {
    let selected = "select dead_letter from inbox.audit
        where replay = $1 and action = 'replay' and dead_letter is not null";
    sqlx::query_scalar(selected).bind(replay).fetch_all(pool).await
}

/// What became of each letter of a replay, in the order of the results.
pub async fn results(pool: &PgPool, replay: Uuid) -> Result<Vec<Entry>, sqlx::Error> {
    sqlx::query_as(
        "select at, actor, action, dead_letter, replay, reason from inbox.audit
         where replay = $1 and action in ('replayed', 'dead-again') order by seq",
    )
    .bind(replay)
    .fetch_all(pool)
    .await
}

/// Stops a replay after the record that is being processed. False where none of this id is running.
pub async fn stop(pool: &PgPool, replay: Uuid, act: Act<'_>) -> Result<bool, sqlx::Error> {
    turn(pool, replay, act, ("running", "stopped", "replay-stopped")).await
}

/// Goes on with a replay that was stopped. False where none of this id is.
pub async fn resume(pool: &PgPool, replay: Uuid, act: Act<'_>) -> Result<bool, sqlx::Error> {
    turn(pool, replay, act, ("stopped", "running", "replay-resumed")).await
}

async fn turn(
    pool: &PgPool,
    replay: Uuid,
    act: Act<'_>,
    (from, to, action): (&str, &str, &str),
) -> Result<bool, sqlx::Error> {
    let turned = sqlx::query(include_str!("sql/operator/turn_replay.sql"))
        .bind(replay)
        .bind(from)
        .bind(to)
        .bind(action)
        .bind(act.actor)
        .bind(act.reason)
        .execute(pool)
        .await?;
    Ok(turned.rows_affected() == 1)
}

/// Gives the selected letters up for good. What waits behind them goes on, as a replay without a rate.
pub async fn discard(pool: &PgPool, filter: &Filter, act: Act<'_>) -> Result<Discarded, sqlx::Error> {
    let mut transaction = pool.begin().await?;
    // In one order for all who lock several, and before the letters, as the workers do.
    let locked: Vec<Uuid> =
        sqlx::query_scalar_with(include_str!("sql/operator/lock_selected_holds.sql"), filter.arguments()?)
            .fetch_all(&mut *transaction)
            .await?;
    let row = sqlx::query_with(include_str!("sql/operator/discard.sql"), filter.arguments()?)
        .bind(act.actor)
        .bind(act.reason)
        .bind(locked)
        .fetch_one(&mut *transaction)
        .await?;
    let discarded = Discarded { discarded: row.try_get("discarded")?, released: row.try_get("released")? };
    transaction.commit().await?;
    Ok(discarded)
}

async fn progress_of(connection: &mut PgConnection, ids: &[Uuid]) -> Result<Vec<Progress>, sqlx::Error> {
    sqlx::query_as(include_str!("sql/operator/progress.sql")).bind(ids).fetch_all(connection).await
}

impl Filter {
    /// The parameters of `inbox.parked`, `$1` to `$7`.
    fn arguments(&self) -> Result<PgArguments, sqlx::Error> {
        let mut arguments = PgArguments::default();
        arguments.add(&self.ids).map_err(sqlx::Error::Encode)?;
        for text in [&self.consumer, &self.topic, &self.event_type, &self.kind, &self.fingerprint] {
            arguments.add(text).map_err(sqlx::Error::Encode)?;
        }
        arguments.add(&self.key).map_err(sqlx::Error::Encode)?;
        Ok(arguments)
    }
}

impl FromRow<'_, PgRow> for Letter {
    fn from_row(row: &PgRow) -> Result<Self, sqlx::Error> {
        let headers = Headers::decode(row.try_get("headers")?);
        Ok(Self {
            id: row.try_get("id")?,
            consumer: row.try_get("consumer")?,
            place: (row.try_get("topic")?, row.try_get("partition")?, row.try_get("offset")?),
            key: row.try_get("key")?,
            headers: headers.map_err(|malformed| sqlx::Error::Decode(Box::new(malformed)))?,
            payload: row.try_get("payload")?,
            event_id: row.try_get("event_id")?,
            source: row.try_get("source")?,
            event_type: row.try_get("event_type")?,
            state: row.try_get("state")?,
            kind: row.try_get("kind")?,
            error: row.try_get("error")?,
            fingerprint: row.try_get("fingerprint")?,
            attempts: row.try_get("attempts")?,
            replays: row.try_get("replays")?,
            first_failed_at: row.try_get("first_failed_at")?,
            last_failed_at: row.try_get("last_failed_at")?,
            parked_at: row.try_get("parked_at")?,
            version: row.try_get("version")?,
            trace_id: row.try_get("trace_id")?,
            replay: row.try_get("replay")?,
        })
    }
}
