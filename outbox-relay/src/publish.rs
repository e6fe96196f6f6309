//! One outbox, from its lease to Kafka's acknowledgement.
//!
//! A session ends with everything that was learned in it: whatever goes wrong, the producer's queue is emptied, and the
//! next session takes the lease and reads the durable cursor again.

use std::{
    collections::HashMap,
    future::Future,
    pin::pin,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use prometheus_client::metrics::counter::Counter;
use sqlx::{PgConnection, Row as _};
use telemetry::Heartbeat;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    config::Source,
    cursor::{Page, Reader, Row},
    lease::{self, Lease, Watch},
    metrics::OutboxMetrics,
    pending::{Pending, Refused},
    producer::{Producer, Record, Refusal},
    session::{self, Session},
    state::{Phase, State},
};

const IDLE: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(50));
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// How often a standby looks at the lease.
const LOOK: Duration = Duration::from_millis(100);
/// At most this long is a cursor's move only in memory while pages flow.
const SAVE: Duration = Duration::from_millis(50);
/// A little more than the session's `statement_timeout`: the server has vanished without a word.
const SILENCE: Duration = Duration::from_secs(35);
/// The count of unpublished rows is a query: not more often than this.
const COUNT: Duration = Duration::from_secs(5);
const COUNT_UP_TO: i64 = 100_000;

/// An outbox and all that it needs.
pub struct Outbox {
    /// Where it is.
    pub source: Source,
    /// The way into Kafka.
    pub producer: Producer,
    /// Its metrics.
    pub metrics: OutboxMetrics,
    /// Its state.
    pub state: State,
    /// Its sign of life.
    pub heartbeat: Arc<Heartbeat>,
    /// How long a shutdown waits for acknowledgements.
    pub drain: Duration,
    /// Ends it.
    pub shutdown: CancellationToken,
}

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
enum Stop {
    #[error(transparent)]
    Session(#[from] session::Error),
    #[error(transparent)]
    Lease(#[from] lease::Error),
    #[error("the session with PostgreSQL was lost")]
    Sql(#[from] sqlx::Error),
    #[error("PostgreSQL has not answered for {} s", SILENCE.as_secs())]
    Silence,
    #[error("records were not acknowledged before the shutdown's deadline")]
    Deadline,
    #[error("the producer cannot go on: {0}")]
    Producer(String),
    /// Not the end of a session: the page is tried again.
    #[error("event {} cannot be published: {}", .0.0.as_deref().unwrap_or("without id"), .0.1)]
    Refused(Refused),
}

/// The producer has failed for good; only a new process helps.
#[derive(Debug, thiserror::Error)]
#[error("the Kafka producer has failed for good: {0}")]
pub struct ProducerFailed(String);

impl Outbox {
    /// Publishes until the shutdown.
    pub async fn run(self) -> Result<(), ProducerFailed> {
        let (mut retry, mut mine) = (RETRY.0, None);
        while !self.shutdown.is_cancelled() {
            self.heartbeat.beat();
            let began = Instant::now();
            let ended = self.session(&mut mine).await;
            self.metrics.up.set(0);
            self.metrics.epoch.set(0);
            match ended {
                Ok(()) => break,
                Err(Stop::Producer(reason)) => return Err(ProducerFailed(reason)),
                Err(Stop::Lease(lease::Error::Fenced)) => {
                    self.state.set(Phase::Standby, "another relay has the lease")
                }
                Err(stop) => self.state.set(Phase::Away, chain(&stop)),
            }
            if began.elapsed() > RETRY.1 {
                retry = RETRY.0;
            }
            let _ = timeout(retry, self.shutdown.cancelled()).await;
            retry = (retry * 2).min(RETRY.1);
        }
        self.state.set(Phase::Ended, "stopped");
        Ok(())
    }

    /// `mine` is the owner that this process was last: its session is over, so nobody has to be waited for.
    async fn session(&self, mine: &mut Option<Uuid>) -> Result<(), Stop> {
        let mut session = Session::open(&self.source).await?;
        let mut watch = None;
        let (lease, position) = loop {
            if self.shutdown.is_cancelled() {
                return Ok(());
            }
            match bounded(Watch::look(watch, *mine, &mut session)).await?? {
                Ok(taken) => break taken,
                Err(seen) => watch = Some(seen),
            }
            self.heartbeat.beat();
            self.metrics.up.set(1);
            self.state.set(Phase::Standby, "standing by: the lease is held");
            let _ = timeout(LOOK, self.shutdown.cancelled()).await;
        };
        *mine = Some(lease.owner);
        self.metrics.up.set(1);
        self.metrics.epoch.set(lease.epoch);
        self.state.set(Phase::Publishing, "publishing");
        let mut owner = Owner {
            outbox: self,
            connection: session.connection,
            lease,
            reader: Reader::new(position),
            unsaved: None,
            saved: Instant::now(),
            counted: None,
            oldest: None,
            pending: Arc::default(),
            counters: HashMap::new(),
        };
        let ended = owner.publish().await;
        owner.abandon().await;
        match ended {
            Ok(()) | Err(Stop::Deadline) => owner.leave().await,
            Err(stop) => Err(stop),
        }
    }
}

/// The holder of the lease.
struct Owner<'o> {
    outbox: &'o Outbox,
    connection: PgConnection,
    lease: Lease,
    reader: Reader,
    /// The last id that was published but not yet covered by the durable cursor.
    unsaved: Option<i64>,
    saved: Instant,
    counted: Option<Instant>,
    /// When the oldest unpublished event was appended.
    oldest: Option<f64>,
    /// What is in the producer.
    pending: Arc<Pending>,
    counters: HashMap<String, Counter>,
}

impl Owner<'_> {
    /// Polls and publishes until the shutdown, or until the session is of no more use.
    async fn publish(&mut self) -> Result<(), Stop> {
        let outbox = self.outbox;
        let (mut idle, mut retry) = (IDLE.0, RETRY.0);
        while !outbox.shutdown.is_cancelled() {
            let began = Instant::now();
            outbox.heartbeat.beat();
            bounded(self.lease.keep(&mut self.connection)).await??;
            let Some(page) = bounded(self.reader.next(&mut self.connection)).await?? else {
                self.save().await?;
                self.oldest = None;
                self.outbox.metrics.oldest.set(0.0);
                self.outbox.metrics.unpublished.set(0);
                self.outbox.state.set(Phase::Publishing, "publishing");
                let _ = timeout(idle, outbox.shutdown.cancelled()).await;
                idle = (idle * 5 / 4).min(IDLE.1);
                continue;
            };
            match self.page(&page).await {
                Ok(()) => {
                    (idle, retry) = (IDLE.0, RETRY.0);
                    outbox.state.set(Phase::Publishing, "publishing");
                    if self.saved.elapsed() >= SAVE {
                        self.save().await?;
                    }
                    // Not sooner than a millisecond after the last poll: what arrives meanwhile goes as one page.
                    sleep(IDLE.0.saturating_sub(began.elapsed())).await;
                }
                Err(Stop::Refused(refused)) => {
                    self.abandon().await;
                    self.save().await?;
                    if let Some(reason) = outbox.producer.fatal() {
                        return Err(Stop::Producer(reason));
                    }
                    match &refused.1 {
                        Refusal::Purged => {}
                        Refusal::Away(_) => outbox.state.set(Phase::Waiting, refused.1.to_string()),
                        _ => {
                            outbox.producer.doubt_topics();
                            outbox.state.set(Phase::Stopped, Stop::Refused(refused).to_string());
                        }
                    }
                    let shutdown = outbox.shutdown.clone();
                    let _ = self.while_beating(timeout(retry, shutdown.cancelled())).await?;
                    retry = (retry * 2).min(RETRY.1);
                }
                Err(stop) => return Err(stop),
            }
        }
        Ok(())
    }

    /// Publishes a page up to the first row that cannot be, and moves the cursor in memory.
    async fn page(&mut self, page: &Page) -> Result<(), Stop> {
        self.oldest = page.rows.first().map(|row| row.created_at);
        self.observe_age();
        let (records, blocked) = self.publishable(&page.rows).await?;
        if !records.is_empty() {
            // A process that was frozen since the poll finds out here that it has been replaced.
            bounded(self.lease.keep(&mut self.connection)).await??;
            self.pending = Arc::default();
            for record in &records {
                while !self
                    .outbox
                    .producer
                    .send(record, &self.pending)
                    .map_err(|refusal| refused(record.row, refusal))?
                {
                    self.while_beating(sleep(Duration::from_millis(5))).await?;
                }
            }
            self.acknowledged().await?;
            self.observe_published(&page.rows[..records.len()]);
            self.unsaved = page.rows.get(records.len() - 1).map(|row| row.id);
            self.outbox.metrics.unpublished.set(i64::try_from(page.behind).unwrap_or(i64::MAX));
            self.reader.advance(page, records.len());
        }
        blocked.map_or(Ok(()), Err)
    }

    /// The rows before the first one that Kafka would refuse, and why it would.
    async fn publishable<'r>(&mut self, rows: &'r [Row]) -> Result<(Vec<Record<'r>>, Option<Stop>), Stop> {
        let producer = &self.outbox.producer;
        let mut records = Vec::with_capacity(rows.len());
        for row in rows {
            let topic = producer.topic(&row.topic);
            let partitions = match producer.known_partitions(&topic) {
                Some(partitions) => Ok(partitions),
                None => {
                    let (producer, topic) = (producer.clone(), topic.clone());
                    let asking = tokio::task::spawn_blocking(move || producer.ask_partitions(&topic));
                    self.while_beating(asking)
                        .await?
                        .unwrap_or_else(|error| Err(Refusal::Away(error.to_string())))
                }
            };
            match partitions.and_then(|partitions| Record::new(row, topic, partitions)) {
                Ok(record) => records.push(record),
                Err(refusal) => return Ok((records, Some(refused(row, refusal)))),
            }
        }
        Ok((records, None))
    }

    /// Waits for the answers to everything queued, however long Kafka is away.
    async fn acknowledged(&mut self) -> Result<(), Stop> {
        let (pending, shutdown, drain) =
            (self.pending.clone(), self.outbox.shutdown.clone(), self.outbox.drain);
        let too_late = async {
            shutdown.cancelled().await;
            sleep(drain).await;
        };
        let settled = async {
            tokio::select! {
                settled = pending.settled() => settled.map_err(Stop::Refused),
                () = too_late => Err(Stop::Deadline),
            }
        };
        self.while_beating(settled).await?
    }

    /// Keeps the lease while something else takes its time.
    async fn while_beating<T>(&mut self, future: impl Future<Output = T>) -> Result<T, Stop> {
        let began = Instant::now();
        let mut future = pin!(future);
        loop {
            if let Ok(done) = timeout(lease::BEAT / 2, &mut future).await {
                return Ok(done);
            }
            self.outbox.heartbeat.beat();
            bounded(self.lease.keep(&mut self.connection)).await??;
            self.observe_age();
            if self.pending.unanswered() > 0 && began.elapsed() > 2 * lease::BEAT {
                let trouble = self.outbox.producer.trouble();
                self.outbox.state.set(Phase::Waiting, format!("Kafka does not acknowledge: {trouble}"));
                if let Some(reason) = self.outbox.producer.fatal() {
                    return Err(Stop::Producer(reason));
                }
            }
            if self.counted.is_none_or(|counted| counted.elapsed() > COUNT) {
                self.counted = Some(Instant::now());
                let count = sqlx::query(include_str!("sql/unpublished.sql")).bind(COUNT_UP_TO);
                let row = bounded(count.fetch_one(&mut self.connection)).await??;
                self.outbox.metrics.unpublished.set(row.try_get("rows")?);
            }
        }
    }

    /// Has everything in the producer answered, so that nothing of this page is sent after what comes next.
    async fn abandon(&mut self) {
        while self.pending.unanswered() > 0 {
            self.outbox.producer.purge();
            let _ = timeout(Duration::from_secs(1), self.pending.emptied()).await;
        }
    }

    /// Makes the cursor durable.
    async fn save(&mut self) -> Result<(), Stop> {
        let Some(id) = self.unsaved else { return Ok(()) };
        if !bounded(self.reader.save(&self.lease, id, &mut self.connection)).await?? {
            return Err(Stop::Lease(lease::Error::Fenced));
        }
        (self.unsaved, self.saved) = (None, Instant::now());
        Ok(())
    }

    /// The orderly end: the cursor covers what was acknowledged, and a standby may begin at once.
    async fn leave(mut self) -> Result<(), Stop> {
        self.save().await?;
        bounded(self.lease.release(&mut self.connection)).await??;
        Ok(())
    }

    fn observe_age(&self) {
        self.outbox.metrics.oldest.set(self.oldest.map_or(0.0, |oldest| (now() - oldest).max(0.0)));
    }

    fn observe_published(&mut self, rows: &[Row]) {
        let now = now();
        for row in rows {
            self.outbox.metrics.seconds.observe((now - row.created_at).max(0.0));
            if !self.counters.contains_key(&row.topic) {
                self.counters.insert(row.topic.clone(), self.outbox.metrics.published(&row.topic));
            }
            if let Some(counter) = self.counters.get(&row.topic) {
                counter.inc();
            }
        }
    }
}

fn refused(row: &Row, refusal: Refusal) -> Stop {
    let headers = outbox::headers::Headers::decode(&row.headers).unwrap_or_default();
    let id = headers.text("ce_id").map_or_else(|| format!("of row {}", row.id), str::to_owned);
    Stop::Refused((Some(id), refusal))
}

async fn bounded<T>(future: impl Future<Output = T>) -> Result<T, Stop> {
    timeout(SILENCE, future).await.map_err(|_| Stop::Silence)
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |now| now.as_secs_f64())
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause = cause.to_string();
        // The client shows a database's error in its own Display too.
        if !words.ends_with(&cause) {
            words.push_str(&format!(": {cause}"));
        }
        source = source.and_then(std::error::Error::source);
    }
    words
}
