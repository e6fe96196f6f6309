//! Carries out replays: dead letters are processed again from PostgreSQL, each in one transaction, a key's in their order.
//!
//! They never go through a topic: the group's own inbox would drop them, and other groups would see old events late. The
//! lock on a key's hold is all the order needs: whoever parks or processes a record of a held key takes it first.

use std::time::Duration;

use outbox::{Event, Headers, UnitOfWork};
use sqlx::{FromRow, PgConnection, Row as _, postgres::PgRow};
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, info, warn};
use uuid::Uuid;

use crate::{
    Consumer, Error, Handler, Kind, Message, batch,
    dead_letter::{Letter, cut, fingerprint},
    error::Failure,
    spans::Unfinished,
};

/// How often it is looked for work.
const POLL: Duration = Duration::from_millis(250);
/// How long PostgreSQL may take for one record.
const WITHIN: Duration = Duration::from_secs(20);
/// How often it may take longer before the record is to blame.
const SLOW: u32 = 3;

/// A replay that is due.
struct Job {
    id: Uuid,
    rate: Option<f64>,
    actor: String,
    reason: String,
}

/// A dead letter as it is stored.
struct Stored {
    id: Uuid,
    message: Message,
    has_key: bool,
    /// Not only waited behind one that did.
    has_failed: bool,
    /// It took effect in its turn already.
    undelivered: bool,
    attempts: i32,
    replays: i32,
    first_failed_at: Option<OffsetDateTime>,
}

/// What a step has done.
#[derive(PartialEq, Eq)]
enum Step {
    Nothing,
    Something,
}

/// What is being replayed, as far as it is known outside of its transaction.
#[derive(Default)]
struct Attempt {
    replay: Option<Uuid>,
    letter: Option<Uuid>,
    /// The letter whose transactions took too long, and how often.
    slow: Option<(Uuid, u32)>,
    /// Why its transaction cannot be committed: the letter is not run again.
    condemned: Option<(Uuid, Failure)>,
}

impl Attempt {
    /// The letter's outcome is written; what is known of another stays.
    fn ended(&mut self) {
        let letter = self.letter;
        self.slow.take_if(|(slow, _)| Some(*slow) == letter);
        self.condemned.take_if(|(condemned, _)| Some(*condemned) == letter);
    }

    /// What can be said of the letter, after its transaction was rolled back.
    fn failed(&mut self, error: &Error) {
        let Some(letter) = self.letter else { return };
        let before = self.slow.take().filter(|(slow, _)| *slow == letter).map_or(0, |(_, times)| times);
        let kind = if error.is_slow() {
            self.slow = Some((letter, before + 1));
            (before + 1 >= SLOW).then_some(Kind::Poison)
        } else {
            error.blame().filter(|kind| *kind != Kind::Config)
        };
        if let Some(kind) = kind {
            self.condemned = Some((letter, Failure { kind, error: error.words() }));
        }
    }
}

/// Replays until shutdown what operators have ordered.
pub(crate) async fn run<H: Handler>(consumer: &Consumer<H>, shutdown: CancellationToken) {
    let group = consumer.group();
    let mut attempt = Attempt::default();
    while !shutdown.is_cancelled() {
        let step = tokio::time::timeout(WITHIN, step(consumer, &group, &mut attempt));
        match step.await.unwrap_or(Err(Error::Timeout)) {
            Ok(Step::Something) => {
                attempt.ended();
                consumer.after_commit.notify_one();
            }
            Ok(Step::Nothing) => {
                let _ = tokio::time::timeout(POLL, shutdown.cancelled()).await;
            }
            Err(error) => {
                warn!(group, error = error.words(), "replay rolled back; trying on");
                attempt.failed(&error);
                let _ = tokio::time::timeout(4 * POLL, shutdown.cancelled()).await;
                // Others go first. Where PostgreSQL is away, it is tried again like this one.
                let put_off =
                    sqlx::query("update inbox.replay set next_at = clock_timestamp() where id = $1");
                let _ = put_off.bind(attempt.replay).execute(&consumer.pool).await;
            }
        }
    }
}

/// Replays one record of the first replay that is due.
async fn step<H: Handler>(consumer: &Consumer<H>, group: &str, attempt: &mut Attempt) -> Result<Step, Error> {
    (attempt.replay, attempt.letter) = (None, None);
    let mut work = UnitOfWork::begin(&consumer.pool).await?;
    let job = sqlx::query_as::<_, Job>(include_str!("sql/claim_replay.sql")).bind(group);
    let Some(job) = job.fetch_optional(&mut *work).await? else { return Ok(Step::Nothing) };
    attempt.replay = Some(job.id);
    let Some(letter) = next(&mut work, &job).await? else {
        finish(&mut work, group, &job, "done", None).await?;
        work.commit(Vec::new()).await?;
        info!(group, replay = %job.id, "replay is done");
        return Ok(Step::Something);
    };
    attempt.letter = Some(letter.id);
    let condemned = attempt.condemned.as_ref().filter(|(condemned, _)| *condemned == letter.id);
    let condemned = condemned.map(|(_, failure)| failure.clone());
    let mut message = letter.message.clone();
    let admitted = message.identify().and_then(|()| consumer.subscription.takes(&message));
    let span = message.replay_span(consumer.subscription.group, job.id);
    message.span = Some(span.clone());
    let unfinished = Unfinished(Some(span.clone()));
    let replayed = async {
        // An outcome is what the record has caused, or why it has not taken effect.
        let outcome = match (admitted, condemned) {
            (Err(failure), _) | (Ok(_), Some(failure)) => Err(failure),
            (Ok(true), None) => batch::run_apart(&consumer.handler, &mut work, &message).await?,
            // An older program than the one that parked it would take it for done.
            (Ok(false), None) if letter.has_failed => Err(Failure {
                kind: Kind::Config,
                error: format!(
                    "this program does not take events of type {:?} from {}",
                    message.event_type, message.topic
                ),
            }),
            (Ok(false), None) => Ok(Vec::new()),
        };
        commit(work, consumer, group, &job, &letter, &message, outcome).await
    };
    match replayed.instrument(span).await {
        Ok(None) => unfinished.succeed(),
        Ok(Some(Failure { kind, error })) => unfinished.fail(kind.as_str(), &error),
        Err(error) => {
            unfinished.fail(error.class(), &error.words());
            return Err(error);
        }
    }
    Ok(Step::Something)
}

/// Writes the outcome of a letter with all that it means. Says why it has failed, where it has.
async fn commit<H: Handler>(
    mut work: UnitOfWork,
    consumer: &Consumer<H>,
    group: &str,
    job: &Job,
    letter: &Stored,
    message: &Message,
    outcome: Result<Vec<Event>, Failure>,
) -> Result<Option<Failure>, Error> {
    let failure = outcome.as_ref().err().cloned();
    let events = match outcome {
        Ok(events) => {
            succeed(&mut work, group, job, letter, message).await?;
            events
        }
        Err(failure) if failure.kind == Kind::Config => {
            warn!(group, replay = %job.id, error = failure.error, "replay stops");
            finish(&mut work, group, job, "stopped", Some(&failure.error)).await?;
            Vec::new()
        }
        Err(failure) => fail(&mut work, consumer, group, job, letter, failure).await?.into_iter().collect(),
    };
    sqlx::query(
        "update inbox.replay
         set next_at = coalesce(
             greatest(next_at, clock_timestamp() - interval '1 second') + interval '1 second' / $2, clock_timestamp())
         where id = $1",
    )
    .bind(job.id)
    .bind(job.rate)
    .execute(&mut *work)
    .await?;
    work.commit(events).await?;
    match &failure {
        None => {
            consumer.handler.committed(&[message]);
            consumer.metrics.replayed(&message.topic);
        }
        Some(failure) if failure.kind == Kind::Config => {}
        Some(failure) => consumer.metrics.parked(&message.topic, Some(failure.kind)),
    }
    consumer.metrics.letters_changed.notify_one();
    Ok(failure)
}

/// The replay's next dead letter, behind the lock of its key's hold.
async fn next(connection: &mut PgConnection, job: &Job) -> Result<Option<Stored>, sqlx::Error> {
    let id: Option<Uuid> = sqlx::query_scalar(
        "select id from inbox.dead_letter
         where replay = $1 and state in ('parked', 'held') order by seq limit 1",
    )
    .bind(job.id)
    .fetch_optional(&mut *connection)
    .await?;
    let Some(id) = id else { return Ok(None) };
    sqlx::query(
        "select from inbox.key_hold as h join inbox.dead_letter as l using (consumer, topic, key_hash)
         where l.id = $1 for update of h",
    )
    .bind(id)
    .execute(&mut *connection)
    .await?;
    // It may have been discarded while the lock was waited for; then the next step finds the next one.
    sqlx::query_as(include_str!("sql/lock_letter.sql"))
        .bind(id)
        .bind(job.id)
        .fetch_optional(connection)
        .await?
        .ok_or(sqlx::Error::RowNotFound)
        .map(Some)
}

/// The record has taken effect: the next of its key is due, or its hold is over.
async fn succeed(
    connection: &mut PgConnection,
    group: &str,
    job: &Job,
    letter: &Stored,
    message: &Message,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "update inbox.dead_letter
         set state = 'replayed', replays = replays + 1, attempts = attempts + 1, ended_at = clock_timestamp()
         where id = $1",
    )
    .bind(letter.id)
    .execute(&mut *connection)
    .await?;
    if !letter.undelivered {
        // Its effect follows those of what was processed since it was parked.
        sqlx::query(
            "update inbox.message set seq = nextval('inbox.processing_seq'), processed_at = clock_timestamp()
             where slot = $1 and consumer = $2 and source = $3 and id = $4",
        )
        .bind(message.slot())
        .bind(group)
        .bind(&message.source)
        .bind(message.id.to_string())
        .execute(&mut *connection)
        .await?;
    }
    if letter.has_key {
        sqlx::query(include_str!("sql/let_go.sql"))
            .bind(letter.id)
            .bind(job.id)
            .execute(&mut *connection)
            .await?;
    }
    audit(connection, group, job, Some(letter.id), "replayed", &job.reason).await
}

/// The record is dead again, and stays where it is. Returns its new copy.
async fn fail<H: Handler>(
    connection: &mut PgConnection,
    consumer: &Consumer<H>,
    group: &str,
    job: &Job,
    letter: &Stored,
    failure: Failure,
) -> Result<Option<Event>, sqlx::Error> {
    let row = sqlx::query(
        "update inbox.dead_letter
         set state = 'parked', replay = null, error = $3, fingerprint = $4, version = $5,
             -- It has had its turn, however often it fails.
             kind = case when kind = 'undelivered' then kind else $2 end,
             replays = replays + 1, attempts = attempts + 1, last_failed_at = clock_timestamp(),
             first_failed_at = coalesce(first_failed_at, clock_timestamp())
         where id = $1
         returning last_failed_at",
    )
    .bind(letter.id)
    .bind(failure.kind.as_str())
    .bind(cut(&failure.error))
    .bind(fingerprint(&failure))
    .bind(consumer.version)
    .fetch_one(&mut *connection)
    .await?;
    audit(connection, group, job, Some(letter.id), "dead-again", &failure.error).await?;
    let last_failed_at: OffsetDateTime = row.try_get("last_failed_at")?;
    let again = Letter {
        id: letter.id,
        message: &letter.message,
        in_inbox: false,
        failure: Some(failure),
        version: Some(consumer.version),
        attempts: letter.attempts + 1,
        replays: letter.replays + 1,
        first_failed_at: letter.first_failed_at.unwrap_or(last_failed_at),
        last_failed_at,
    };
    Ok(again.copy(group, consumer.subscription.group))
}

async fn finish(
    connection: &mut PgConnection,
    group: &str,
    job: &Job,
    state: &'static str,
    words: Option<&str>,
) -> Result<(), sqlx::Error> {
    sqlx::query("update inbox.replay set state = $2, words = $3, ended_at = clock_timestamp() where id = $1")
        .bind(job.id)
        .bind(state)
        .bind(words.map(cut))
        .execute(&mut *connection)
        .await?;
    let action = if state == "done" { "replay-done" } else { "replay-stopped" };
    audit(connection, group, job, None, action, words.unwrap_or(&job.reason)).await
}

async fn audit(
    connection: &mut PgConnection,
    group: &str,
    job: &Job,
    letter: Option<Uuid>,
    action: &str,
    reason: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "insert into inbox.audit (actor, action, consumer, dead_letter, replay, reason) values ($1, $2, $3, $4, $5, $6)",
    )
    .bind(&job.actor)
    .bind(action)
    .bind(group)
    .bind(letter)
    .bind(job.id)
    .bind(cut(reason))
    .execute(connection)
    .await?;
    Ok(())
}

impl FromRow<'_, PgRow> for Job {
    fn from_row(row: &PgRow) -> Result<Self, sqlx::Error> {
        let (id, rate) = (row.try_get("id")?, row.try_get("rate")?);
        Ok(Self { id, rate, actor: row.try_get("actor")?, reason: row.try_get("reason")? })
    }
}

impl FromRow<'_, PgRow> for Stored {
    fn from_row(row: &PgRow) -> Result<Self, sqlx::Error> {
        let headers = Headers::decode(row.try_get("headers")?);
        let key: Option<Vec<u8>> = row.try_get("key")?;
        Ok(Self {
            id: row.try_get("id")?,
            has_key: key.is_some(),
            has_failed: row.try_get("has_failed")?,
            undelivered: row.try_get("undelivered")?,
            message: Message {
                topic: row.try_get("topic")?,
                partition: row.try_get("partition")?,
                offset: row.try_get("offset")?,
                key,
                headers: headers.map_err(|malformed| sqlx::Error::Decode(Box::new(malformed)))?,
                payload: row.try_get("payload")?,
                timestamp: row.try_get("recorded_ms")?,
                source: String::new(),
                id: Uuid::nil(),
                event_type: String::new(),
                span: None,
            },
            attempts: row.try_get("attempts")?,
            replays: row.try_get("replays")?,
            first_failed_at: row.try_get("first_failed_at")?,
        })
    }
}
