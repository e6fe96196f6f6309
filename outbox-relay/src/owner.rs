//! The holder of the lease: reads pages ahead, sends them, and moves the cursor over what is acknowledged.

use std::{
    collections::HashMap,
    future::Future,
    pin::pin,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use prometheus_client::metrics::counter::Counter;
use sqlx::{PgConnection, Row as _};
use tokio::time::{Instant, sleep, timeout};

use crate::{
    cursor::{Page, Position, Reader, Row},
    flight::{Flight, Sent},
    lease::{self, Lease},
    outbox::Outbox,
    producer::{Record, Refusal, Topic},
    ring,
    session::Session,
    state::Phase,
    stop::{Stop, bounded},
    wake::Wake,
};

/// How long an idle outbox waits for the next poll: grows from the first to the second, to about a ninth of the time
/// since the last event. A writer that has been quiet for 50 ms wakes it (`outbox::UnitOfWork`).
const IDLE: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(100));
/// How long what was refused waits: doubles from the first to the second.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// At most this long is the cursor's move only in memory while pages flow.
const SAVE: Duration = Duration::from_millis(50);
/// How often metrics and words are renewed.
const WATCH: Duration = Duration::from_millis(500);
/// How long an acknowledgement may take before it is worth a word.
const UNANSWERED: Duration = Duration::from_secs(2);
/// The count of unpublished rows is a query: not more often than this.
const COUNT: Duration = Duration::from_secs(5);
const COUNT_UP_TO: i64 = 100_000;

/// The one who publishes an outbox.
pub struct Owner<'o> {
    outbox: &'o Outbox,
    connection: PgConnection,
    lease: Lease,
    reader: Reader,
    flight: Flight,
    /// Everything up to here is acknowledged.
    landed: Position,
    /// The last acknowledged id that the durable cursor does not cover yet.
    unsaved: Option<i64>,
    saved: Instant,
    counted: Option<Instant>,
    watched: Instant,
    /// When the oldest row was appended that is known to wait and is not in flight.
    waits_since: Option<f64>,
    counters: HashMap<Arc<str>, Counter>,
    wake: Wake,
    ring_due: Instant,
}

impl<'o> Owner<'o> {
    /// Begins at a position that was read with the lease.
    pub fn new(outbox: &'o Outbox, session: Session, wake: Wake, lease: Lease, position: Position) -> Self {
        Self {
            outbox,
            connection: session.connection,
            lease,
            reader: Reader::new(position.clone()),
            flight: Flight::default(),
            landed: position,
            unsaved: None,
            saved: Instant::now(),
            counted: None,
            watched: Instant::now(),
            waits_since: None,
            counters: HashMap::new(),
            wake,
            ring_due: Instant::now(),
        }
    }

    /// Publishes until the shutdown, or until the session is of no more use. Nothing is in flight afterwards.
    pub async fn publish(mut self) -> Result<(), Stop> {
        let ended = match self.flow().await {
            Ok(()) => self.landing(sleep(self.outbox.drain)).await,
            Err(stop) => Err(stop),
        };
        self.abandon().await;
        match ended {
            Ok(()) | Err(Stop::Deadline) => self.leave().await,
            Err(stop) => Err(stop),
        }
    }

    async fn flow(&mut self) -> Result<(), Stop> {
        let (mut idle, mut retry) = (IDLE.0, RETRY.0);
        while !self.outbox.shutdown.is_cancelled() {
            match self.step(&mut idle).await {
                Ok(0) => {}
                Ok(_) => retry = RETRY.0,
                Err(stop @ (Stop::Blocked(_) | Stop::Refused(_))) => {
                    self.step_back(stop).await?;
                    let shutdown = self.outbox.shutdown.clone();
                    let _ = self.while_watching(timeout(retry, shutdown.cancelled())).await?;
                    retry = (retry * 2).min(RETRY.1);
                }
                Err(stop) => return Err(stop),
            }
        }
        Ok(())
    }

    /// Takes what has landed, sends a page more where there is room, and waits where there is nothing to do. Says how
    /// many rows have landed.
    async fn step(&mut self, idle: &mut Duration) -> Result<usize, Stop> {
        let began = Instant::now();
        self.watch().await?;
        let landed = self.land()?;
        if self.saved.elapsed() >= SAVE {
            self.save().await?;
        }
        let page = match self.flight.has_room() {
            true => bounded(self.reader.next(&mut self.connection)).await??,
            false => None,
        };
        if let Some(page) = page {
            // A process that was frozen since the poll finds out here that it has been replaced.
            bounded(self.lease.keep(&mut self.connection)).await??;
            self.send(&page).await?;
            *idle = IDLE.0;
            if page.behind == 0 {
                // Not sooner than a millisecond after the last poll: what arrives meanwhile goes as one page.
                sleep(IDLE.0.saturating_sub(began.elapsed())).await;
            }
            return Ok(landed);
        }
        if self.flight.is_empty() {
            self.save().await?;
            self.waits_since = None;
            self.outbox.metrics.oldest.set(0.0);
            self.outbox.metrics.unpublished.set(0);
            self.outbox.state.set(Phase::Publishing, "publishing");
        }
        let changes = self.flight.changes();
        tokio::select! {
            () = changes.notified() => {}
            () = self.wake.up() => *idle = IDLE.0,
            () = sleep(*idle) => *idle = (*idle * 9 / 8).min(IDLE.1),
            () = self.outbox.shutdown.cancelled() => {}
        }
        Ok(landed)
    }

    /// Goes back to what is acknowledged, and says why.
    async fn step_back(&mut self, stop: Stop) -> Result<(), Stop> {
        if matches!(stop, Stop::Blocked(_)) {
            // Nothing is wrong with what is on its way.
            let shutdown = self.outbox.shutdown.clone();
            match self.landing(shutdown.cancelled()).await {
                Ok(()) | Err(Stop::Refused(_) | Stop::Deadline) => {}
                Err(stop) => return Err(stop),
            }
        }
        self.abandon().await;
        self.save().await?;
        self.reader = Reader::new(self.landed.clone());
        if let Some(reason) = self.outbox.producer.fatal() {
            return Err(Stop::Producer(reason));
        }
        match &stop {
            Stop::Blocked((_, Refusal::Away(_))) | Stop::Refused((_, Refusal::Away(_))) => {
                self.outbox.state.set(Phase::Waiting, stop.words());
            }
            Stop::Refused((_, Refusal::Purged)) => {}
            _ => {
                self.outbox.producer.doubt_topics();
                self.outbox.state.set(Phase::Stopped, stop.words());
            }
        }
        Ok(())
    }

    /// Gives a page to the producer, up to the first row that it would refuse.
    async fn send(&mut self, page: &Page) -> Result<(), Stop> {
        self.waits_since = page.rows.first().map(|row| row.created_at);
        let pending = self.flight.pending();
        let mut sent = Sent {
            pending: pending.clone(),
            after: page.after(page.rows.len()),
            last_id: 0,
            created_at: Vec::with_capacity(page.rows.len()),
            topics: HashMap::new(),
            bytes: 0,
            sent_at: Instant::now(),
        };
        let mut stopped = Ok(());
        for row in &page.rows {
            stopped = self.send_row(row, &mut sent).await;
            if stopped.is_err() {
                break;
            }
        }
        let rows = sent.created_at.len();
        if rows > 0 {
            if rows < page.rows.len() {
                sent.after = page.after(rows);
            }
            sent.last_id = page.rows[rows - 1].id;
            self.flight.push(sent);
        }
        self.waits_since = page.rows.get(rows).map(|row| row.created_at);
        self.outbox
            .metrics
            .unpublished
            .set(i64::try_from(self.flight.rows() + page.behind).unwrap_or(i64::MAX));
        stopped
    }

    async fn send_row(&mut self, row: &Row, sent: &mut Sent) -> Result<(), Stop> {
        let topic = self.topic(&row.topic).await?.map_err(|refusal| Stop::blocked(row, refusal))?;
        let record = Record::new(row, topic).map_err(|refusal| Stop::blocked(row, refusal))?;
        while !self
            .outbox
            .producer
            .send(&record, &sent.pending)
            .map_err(|refusal| Stop::blocked(row, refusal))?
        {
            self.while_watching(sleep(Duration::from_millis(5))).await?;
        }
        sent.created_at.push(row.created_at);
        sent.bytes += row.size();
        match sent.topics.get_mut(&record.topic) {
            Some(rows) => *rows += 1,
            None => drop(sent.topics.insert(record.topic, 1)),
        }
        Ok(())
    }

    async fn topic(&mut self, logical: &str) -> Result<Result<Topic, Refusal>, Stop> {
        if let Some(topic) = self.outbox.producer.known(logical) {
            return Ok(Ok(topic));
        }
        let (producer, logical) = (self.outbox.producer.clone(), logical.to_owned());
        let asking = tokio::task::spawn_blocking(move || producer.ask(&logical));
        let asked = self.while_watching(asking).await?;
        Ok(asked.unwrap_or_else(|error| Err(Refusal::Away(error.to_string()))))
    }

    /// Moves the cursor, in memory, over the pages at the front that are acknowledged.
    fn land(&mut self) -> Result<usize, Stop> {
        let mut landed = 0;
        while let Some(page) = self.flight.land().map_err(Stop::Refused)? {
            self.observe_published(&page);
            landed += page.created_at.len();
            self.landed = page.after;
            self.unsaved = Some(page.last_id);
        }
        if landed > 0 {
            self.outbox.state.set(Phase::Publishing, "publishing");
        }
        Ok(landed)
    }

    /// Waits until everything on its way has landed, but no longer than `limit`.
    async fn landing(&mut self, limit: impl Future<Output = ()>) -> Result<(), Stop> {
        let mut limit = pin!(limit);
        let changes = self.flight.changes();
        loop {
            self.watch().await?;
            self.land()?;
            if self.flight.is_empty() {
                return Ok(());
            }
            tokio::select! {
                () = changes.notified() => {}
                () = sleep(IDLE.1) => {}
                () = &mut limit => return Err(Stop::Deadline),
            }
        }
    }

    /// Has everything in the producer answered.
    async fn abandon(&mut self) {
        let producer = &self.outbox.producer;
        self.flight.abandon(|| producer.purge()).await;
    }

    /// Makes the cursor durable.
    async fn save(&mut self) -> Result<(), Stop> {
        let Some(id) = self.unsaved else { return Ok(()) };
        if !bounded(self.landed.save(&self.lease, id, &mut self.connection)).await?? {
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

    /// Watches while something else takes its time.
    async fn while_watching<T>(&mut self, future: impl Future<Output = T>) -> Result<T, Stop> {
        let mut future = pin!(future);
        loop {
            if let Ok(done) = timeout(WATCH, &mut future).await {
                return Ok(done);
            }
            self.watch().await?;
        }
    }

    /// Keeps the lease, and says from time to time how things are.
    async fn watch(&mut self) -> Result<(), Stop> {
        self.outbox.heartbeat.beat();
        bounded(self.lease.keep(&mut self.connection)).await??;
        if Instant::now() >= self.ring_due {
            let ring = bounded(ring::maintain(&self.lease, &mut self.connection)).await??;
            self.outbox.metrics.ring_used.set(ring.used);
            self.outbox.metrics.ring_overdue.set(ring.overdue);
            self.ring_due = Instant::now() + self.outbox.ring_interval;
        }
        if self.watched.elapsed() < WATCH {
            return Ok(());
        }
        self.watched = Instant::now();
        let oldest = self.flight.oldest().or(self.waits_since);
        self.outbox.metrics.oldest.set(oldest.map_or(0.0, |oldest| (now() - oldest).max(0.0)));
        if self.flight.waits().is_some_and(|waits| waits > UNANSWERED) {
            let trouble = self.outbox.producer.trouble();
            self.outbox.state.set(Phase::Waiting, format!("Kafka does not acknowledge: {trouble}"));
            if let Some(reason) = self.outbox.producer.fatal() {
                return Err(Stop::Producer(reason));
            }
        }
        if oldest.is_some() && self.counted.is_none_or(|counted| counted.elapsed() > COUNT) {
            self.counted = Some(Instant::now());
            let count = sqlx::query(include_str!("sql/unpublished.sql")).bind(COUNT_UP_TO);
            let row = bounded(count.fetch_one(&mut self.connection)).await??;
            self.outbox.metrics.unpublished.set(row.try_get("rows")?);
        }
        Ok(())
    }

    fn observe_published(&mut self, page: &Sent) {
        let now = now();
        for created_at in &page.created_at {
            self.outbox.metrics.seconds.observe((now - created_at).max(0.0));
        }
        for (topic, rows) in &page.topics {
            let counter =
                self.counters.entry(topic.clone()).or_insert_with(|| self.outbox.metrics.published(topic));
            counter.inc_by(*rows);
        }
    }
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |now| now.as_secs_f64())
}
