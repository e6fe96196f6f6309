//! One batch, one transaction: fence, holds, inbox, effects, dead letters, outbox.

use std::{panic::AssertUnwindSafe, time::SystemTime};

use futures_util::FutureExt as _;
use outbox::{Event, MAX_EVENT_BYTES, UnitOfWork};
use sqlx::PgPool;
use telemetry::TraceId;
use tracing::Instrument as _;

use crate::{
    Error, HandleError, Handler, Kind, Message, Metrics, Policy, Subscription,
    buffer::Read,
    dead_letter::{self, Letter},
    error::Failure,
    fence::Fence,
    hold::{self, Held},
    inbox,
    spans::{self, Spans},
};

/// How the records of a batch are run.
#[derive(Clone, Debug)]
pub(crate) enum Mode {
    /// All by one call. What fails takes the whole batch back.
    Together,
    /// Each behind a savepoint, so that one that fails is found and the others are not run again.
    Apart,
    /// The only record of the batch is not run: its transaction could not be committed.
    Condemned(Failure),
}

/// What stopped a batch, of which nothing has happened.
pub(crate) enum Stopped {
    /// Some record failed; [`Mode::Apart`] finds it and deals with it.
    Record(Failure),
    /// The partition of the record at this index has to wait with it.
    Blocked { index: usize, failure: Failure },
    /// A partition's first record lies behind what has taken effect: it is to be read again from there.
    Ahead { partition: (String, i32), reached: i64 },
    /// The transaction was rolled back, or its outcome is unknown: the inbox makes a second run safe.
    Error(Error),
}

impl<E: Into<Error>> From<E> for Stopped {
    fn from(error: E) -> Self {
        Self::Error(error.into())
    }
}

/// What every batch of a consumer needs.
pub(crate) struct Batches<'c, H> {
    pub pool: &'c PgPool,
    /// The group, with the deployment's prefix.
    pub consumer: &'c str,
    pub subscription: &'c Subscription,
    pub handler: &'c H,
    pub metrics: &'c Metrics,
    pub version: &'static str,
}

impl<H: Handler> Batches<'_, H> {
    /// Applies records in their order and commits them with everything they cause. Returns the trace that this is
    /// recorded in.
    pub async fn apply(
        &self,
        fence: &Fence,
        reads: &mut [Read],
        mode: &Mode,
    ) -> Result<Option<TraceId>, Stopped> {
        let spans = Spans::begin(self.subscription.group, reads);
        let outcome = self.enter(fence, reads, mode, &spans).instrument(spans.shared()).await;
        let trace = spans.end(reads, outcome.as_ref().err());
        outcome.map(|()| trace)
    }

    /// What is about the batch as a whole; then what is about its records.
    async fn enter(
        &self,
        fence: &Fence,
        reads: &mut [Read],
        mode: &Mode,
        spans: &Spans,
    ) -> Result<(), Stopped> {
        let mut work = UnitOfWork::begin(self.pool).await?;
        fence.pass(&mut work).await?;
        let messages = reads.iter().map(|read| &read.message);
        let held = hold::lock(&mut work, self.consumer, messages).await?;
        let now = SystemTime::now();
        let checks: Vec<_> = reads.iter().map(|read| read.message.check(now)).collect();
        let new = inbox::enter(&mut work, self.consumer, reads, &checks).await?;
        spans.enter(reads, &new);
        let only = spans.only(reads);
        let checked = checks.into_iter().zip(new).collect();
        self.take_effect(work, fence, reads, checked, held, mode).instrument(only).await
    }

    /// With each record's check, and whether it is new.
    async fn take_effect(
        &self,
        mut work: UnitOfWork,
        fence: &Fence,
        reads: &[Read],
        checked: Vec<(Result<(), Failure>, bool)>,
        mut held: Held,
        mode: &Mode,
    ) -> Result<(), Stopped> {
        let (mut events, mut effects, mut letters) = (Vec::new(), Vec::new(), Vec::new());
        let (mut repeats, mut together) = (Vec::new(), Vec::new());
        for (index, (read, (checked, is_new))) in reads.iter().zip(checked).enumerate() {
            let message = &read.message;
            if !is_new {
                repeats.push(message);
                continue;
            }
            let in_inbox = checked.is_ok();
            if let Some(reached) = fence.has_passed(read) {
                let error = format!(
                    "it is new, though everything before offset {reached} has been read: the topic was deleted and made \
                     again, or has lost records; `select inbox.accept_offsets(...)` as the operator goes on with it"
                );
                return Err(Stopped::Blocked { index, failure: Failure { kind: Kind::Config, error } });
            }
            if held.contains(message) {
                letters.push(Letter::behind(message, in_inbox));
                continue;
            }
            let (failure, attempts) = match checked.and_then(|()| self.subscription.takes(message)) {
                Ok(false) => continue,
                Ok(true) => match self.run(&mut work, message, mode).await? {
                    Ok(caused) => {
                        match caused {
                            Some(caused) => events.extend(caused),
                            None => together.push(message),
                        }
                        effects.push(message);
                        continue;
                    }
                    // With its batch, and apart.
                    Err(failure) => (failure, 2),
                },
                Err(failure) => (failure, 0),
            };
            let letter = |failure| Letter {
                attempts,
                failure: Some(failure),
                version: Some(self.version),
                ..Letter::behind(message, in_inbox)
            };
            match self.policy(message) {
                _ if failure.kind == Kind::Config => return Err(Stopped::Blocked { index, failure }),
                Policy::Block => return Err(Stopped::Blocked { index, failure }),
                Policy::HoldKey => {
                    let letter = letter(failure);
                    held.begin(message, letter.id);
                    letters.push(letter);
                }
                Policy::Skip => letters.push(letter(failure)),
            }
        }
        if !together.is_empty() {
            let handled = self.handler.handle_all(&mut work, &together);
            match outcome(AssertUnwindSafe(handled).catch_unwind().await)? {
                Ok(caused) => events.extend(caused),
                Err(failure) => return Err(Stopped::Record(failure)),
            }
        }
        if !letters.is_empty() {
            dead_letter::park(&mut work, self.consumer, &letters).await?;
            held.save(&mut work, self.consumer).await?;
            events.extend(
                letters.iter().filter_map(|letter| letter.copy(self.consumer, self.subscription.group)),
            );
        }
        work.commit(events).await?;
        self.handler.committed(&effects);
        self.tell(reads.len(), &repeats, &effects, &letters);
        Ok(())
    }

    /// What has happened.
    fn tell(&self, records: usize, repeats: &[&Message], effects: &[&Message], letters: &[Letter<'_>]) {
        self.metrics.batch_records.observe(records as f64);
        for message in repeats {
            self.metrics.repeated(&message.topic);
        }
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        for message in effects {
            let trace = message.span.as_ref().and_then(spans::sampled_trace);
            self.metrics.took_effect(&message.topic, now.saturating_sub(message.made_at()), trace);
        }
        for letter in letters {
            let span = letter.message.span();
            match &letter.failure {
                Some(failure) => spans::fail(&span, failure.kind.as_str(), &failure.error),
                None => spans::fail(&span, "held", "it waits behind a dead letter of its key"),
            }
            span.in_scope(|| letter.report(self.consumer));
            self.metrics.parked(&letter.message.topic, letter.failure.as_ref().map(|failure| failure.kind));
        }
        if !letters.is_empty() {
            self.metrics.letters_changed.notify_one();
        }
    }

    fn policy(&self, message: &Message) -> Policy {
        self.subscription.topic(&message.topic).map(|topic| topic.policy).unwrap_or_default()
    }

    /// What a record has caused; `None` where it is run with its batch.
    async fn run(
        &self,
        work: &mut UnitOfWork,
        message: &Message,
        mode: &Mode,
    ) -> Result<Result<Option<Vec<Event>>, Failure>, Stopped> {
        match mode {
            Mode::Together => Ok(Ok(None)),
            Mode::Apart => Ok(run_apart(self.handler, work, message).await?.map(Some)),
            Mode::Condemned(failure) => Ok(Err(failure.clone())),
        }
    }
}

/// Runs one record behind a savepoint; what fails has not happened.
pub(crate) async fn run_apart<H: Handler>(
    handler: &H,
    work: &mut UnitOfWork,
    message: &Message,
) -> Result<Result<Vec<Event>, Failure>, Error> {
    sqlx::raw_sql("savepoint record").execute(&mut **work).await?;
    let outcome = call(handler, work, message).await?.and_then(check_sizes);
    if outcome.is_ok() {
        let released = sqlx::raw_sql("release savepoint record").execute(&mut **work).await;
        match released.map_err(Error::from) {
            Ok(_) => return Ok(outcome),
            Err(error) if error.blame() == Some(Kind::Bug) => {}
            Err(error) => return Err(error),
        }
    }
    sqlx::raw_sql("rollback to savepoint record; release savepoint record").execute(&mut **work).await?;
    let ignored = || Failure {
        kind: Kind::Bug,
        error: "the handler has ignored that a statement of its failed".to_owned(),
    };
    Ok(Err(outcome.err().unwrap_or_else(ignored)))
}

async fn call<H: Handler>(
    handler: &H,
    work: &mut UnitOfWork,
    message: &Message,
) -> Result<Result<Vec<Event>, Failure>, Error> {
    outcome(AssertUnwindSafe(handler.handle(work, message)).catch_unwind().instrument(message.span()).await)
}

/// Whose fault it is where a handler has not succeeded; an error that passes by itself is nobody's.
fn outcome<T>(
    handled: Result<Result<T, HandleError>, Box<dyn std::any::Any + Send>>,
) -> Result<Result<T, Failure>, Error> {
    match handled {
        Ok(Ok(done)) => Ok(Ok(done)),
        Ok(Err(error)) => error.blame().map(Err),
        Err(panic) => {
            Ok(Err(Failure { kind: Kind::Bug, error: format!("the handler panicked: {}", words(&*panic)) }))
        }
    }
}

/// Before the append, where it would be the batch's fault.
fn check_sizes(events: Vec<Event>) -> Result<Vec<Event>, Failure> {
    match events.iter().find(|event| event.size() > MAX_EVENT_BYTES) {
        None => Ok(events),
        Some(event) => {
            let (topic, size) = (event.topic.to_string(), event.size());
            let error = outbox::Error::TooLarge { topic, size, limit: MAX_EVENT_BYTES };
            Err(Failure { kind: Kind::Poison, error: error.to_string() })
        }
    }
}

fn words(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without words")
}
