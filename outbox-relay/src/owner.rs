//! The holder of the lease: reads pages ahead, sends them, and moves the cursor over what is acknowledged.

mod give;
mod lanes;
mod refusals;

use std::{
    collections::{BTreeMap, HashMap},
    future::Future,
    pin::pin,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use prometheus_client::metrics::counter::Counter;
use sqlx::{PgConnection, Row as _};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::{
    cursor::Position,
    flight::{Flight, Sent},
    lease::{self, Lease},
    outbox::Outbox,
    producer::Refusal,
    reader::{Next, Page, Reader},
    ring,
    session::{self, Session},
    state::Phase,
    stop::{Stop, bounded},
    wake::Wake,
};

use self::{lanes::Lane, refusals::Holds};

/// How long after a poll the next one comes, which tokio's timer makes a millisecond more: what arrives meanwhile goes as
/// one page. In an idle outbox it grows from the first to the second, to about a ninth of the time since the last event.
/// A writer that has been quiet for 50 ms wakes it (`outbox::UnitOfWork`).
const POLL: (Duration, Duration) = (Duration::from_micros(500), Duration::from_millis(100));
/// How long what was refused waits: doubles from the first to the second.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// At most this long is the cursor's move only in memory while pages flow.
const SAVE: Duration = Duration::from_millis(50);
/// How often metrics and words are renewed.
const WATCH: Duration = Duration::from_millis(500);
/// How often the broker is asked again how many partitions a topic has.
const DOUBT: Duration = Duration::from_secs(60);
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
    /// Rows up to this id go one at a time: a batch with some of them was refused.
    careful_until: i64,
    /// Partitions of each topic that were found to be as many as at first.
    partitions: HashMap<String, i32>,
    /// What each topic took when its records on their way were sent.
    limits: HashMap<String, usize>,
    /// Kafka's `cluster.id`, once it was found to be the right one.
    kafka: Option<String>,
    doubted: Instant,
    holds: Holds,
    /// When it was last looked for keys that an operator has released.
    released: Instant,
    lanes: BTreeMap<String, Lane>,
}

impl<'o> Owner<'o> {
    /// Begins at a position that was read with the lease.
    pub fn new(
        outbox: &'o Outbox,
        session: Session,
        lease: Lease,
        position: Position,
    ) -> Result<Self, sqlx::Error> {
        let options = session::options(&outbox.source)?;
        Ok(Self {
            outbox,
            connection: session.connection,
            lease,
            flight: Flight::default(),
            landed: position,
            unsaved: None,
            saved: Instant::now(),
            counted: None,
            watched: Instant::now(),
            waits_since: None,
            counters: HashMap::new(),
            wake: Wake::listen(options),
            ring_due: Instant::now(),
            careful_until: 0,
            partitions: HashMap::new(),
            limits: HashMap::new(),
            kafka: None,
            doubted: Instant::now(),
            holds: Holds::default(),
            released: Instant::now(),
            lanes: BTreeMap::new(),
        })
    }

    /// Publishes until the shutdown, or until the session is of no more use. Nothing is in flight afterwards.
    pub async fn publish(mut self) -> Result<(), Stop> {
        let ended = match self.flow().await {
            Ok(()) => self.landing(sleep(self.outbox.drain)).await,
            Err(stop) => Err(stop),
        };
        self.abandon().await;
        self.note_overtaken().await?;
        match ended {
            Ok(()) | Err(Stop::Deadline) => self.leave().await,
            Err(stop) => Err(stop),
        }
    }

    async fn flow(&mut self) -> Result<(), Stop> {
        self.holds = bounded(Holds::load(&mut self.connection)).await??;
        self.load_lanes().await?;
        let mut reader = Reader::new(self.landed.clone(), session::options(&self.outbox.source)?);
        let (mut pace, mut retry) = (Pace::new(), RETRY.0);
        while !self.outbox.shutdown.is_cancelled() {
            match self.step(&mut reader, &mut pace).await {
                Ok(0) => {}
                Ok(_) => retry = RETRY.0,
                Err(stop) if stop.is_about_a_row() => {
                    // A topic that has got a lane is in nobody's way any more.
                    let again_at_once = matches!(stop, Stop::BlockedTopic(..));
                    self.step_back(stop).await?;
                    reader.restart(self.landed.clone());
                    if !again_at_once {
                        let shutdown = self.outbox.shutdown.clone();
                        let _ = self.while_watching(timeout(retry, shutdown.cancelled())).await?;
                        retry = (retry * 2).min(RETRY.1);
                    }
                }
                Err(stop) => return Err(stop),
            }
        }
        Ok(())
    }

    /// Takes what has landed, sends a page more where there is room, and waits where there is nothing to do. Says how
    /// many rows have landed.
    async fn step(&mut self, reader: &mut Reader, pace: &mut Pace) -> Result<usize, Stop> {
        self.watch().await?;
        let landed = self.land()?;
        if self.saved.elapsed() >= SAVE {
            self.save().await?;
        }
        if !self.lanes.is_empty() {
            self.go_on_lanes().await?;
        }
        if self.holds.len() > 0 && self.released.elapsed() >= WATCH {
            self.released = Instant::now();
            self.let_go().await?;
        }
        let reads = self.flight.has_room() && pace.is_due();
        if reads {
            let began = Instant::now();
            let page = self.read(reader).await?;
            pace.polled(began, page.as_ref());
            if let Some(page) = page {
                // A process that was frozen since the poll finds out here that it has been replaced.
                bounded(self.lease.keep(&mut self.connection)).await??;
                self.send_page(&page).await?;
            }
        }
        if reads && self.flight.is_empty() {
            if self.landed != *reader.position() {
                // A window that was read to its end before, by somebody who could not say so any more.
                self.landed = reader.position().clone();
                self.unsaved.get_or_insert(0);
            }
            self.save().await?;
            self.waits_since = None;
            self.outbox.metrics.oldest.set(0.0);
            self.outbox.metrics.unpublished.set(0);
            self.outbox.state.set(Phase::Publishing, self.words());
        }
        let answers = self.flight.answers();
        tokio::select! {
            () = answers.changed.notified() => {}
            () = self.wake.up() => *pace = Pace::new(),
            () = sleep_until(pace.due), if self.flight.has_room() => {}
            // Nothing lands for a while; the lease is to be kept all the same.
            () = sleep(POLL.1) => {}
            () = self.outbox.shutdown.cancelled() => {}
        }
        Ok(landed)
    }

    /// The next page. While a window is opened the lease is kept.
    async fn read(&mut self, reader: &mut Reader) -> Result<Option<Page>, Stop> {
        loop {
            match bounded(reader.next(&mut self.connection)).await?? {
                Next::Page(page) => return Ok(Some(page)),
                Next::Window(opening) => reader.begin(self.while_watching(opening.open()).await??),
                Next::Nothing => return Ok(None),
            }
        }
    }

    /// Goes back to what is acknowledged, and says why.
    async fn step_back(&mut self, stop: Stop) -> Result<(), Stop> {
        if matches!(stop, Stop::Blocked(_) | Stop::BlockedTopic(..)) {
            // Nothing is wrong with what is on its way.
            let shutdown = self.outbox.shutdown.clone();
            match self.landing(shutdown.cancelled()).await {
                Ok(()) | Err(Stop::Refused(_) | Stop::Deadline) => {}
                Err(stop) => return Err(stop),
            }
        }
        if let (Stop::Refused((_, refusal)), Some(last_id)) = (&stop, self.flight.last_id())
            && !matches!(refusal, Refusal::Purged { .. })
        {
            // A batch is refused as a whole and convicts nobody: all that was on its way goes again, one at a time.
            self.careful_until = self.careful_until.max(last_id);
        }
        self.abandon().await;
        self.note_overtaken().await?;
        self.limits.clear();
        self.save().await?;
        if let Some(reason) = self.outbox.producer.fatal() {
            return Err(Stop::Producer(reason));
        }
        match &stop {
            Stop::Blocked((_, Refusal::Away(_))) | Stop::Refused((_, Refusal::Away(_))) => {
                self.outbox.state.set(Phase::Waiting, stop.words());
            }
            Stop::Refused((_, Refusal::Purged { .. })) | Stop::Blocked((_, Refusal::Purged { .. })) => {}
            Stop::BlockedTopic(topic, refusal) => {
                self.outbox.producer.doubt_topics();
                self.open_lane(topic, refusal.to_string()).await?;
            }
            _ => {
                self.outbox.producer.doubt_topics();
                self.outbox.state.set(Phase::Stopped, stop.words());
            }
        }
        Ok(())
    }

    /// Sends a page, and takes note of why not all of it.
    async fn send_page(&mut self, page: &Page) -> Result<(), Stop> {
        self.waits_since = page.rows.first().map(|row| row.created_at);
        let given = self.give(page, None).await?;
        if given.rows > 0 {
            self.flight.push(given.sent);
        }
        self.waits_since = page.rows.get(given.rows).map(|row| row.created_at);
        let behind = self.flight.rows() + page.behind;
        self.outbox.metrics.unpublished.set(i64::try_from(behind).unwrap_or(i64::MAX));
        given.stopped
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
            self.outbox.state.set(Phase::Publishing, self.words());
        }
        Ok(landed)
    }

    /// Waits until everything on its way has landed, but no longer than `limit`.
    async fn landing(&mut self, limit: impl Future<Output = ()>) -> Result<(), Stop> {
        let mut limit = pin!(limit);
        let answers = self.flight.answers();
        loop {
            self.watch().await?;
            self.land()?;
            if self.flight.is_empty() {
                return Ok(());
            }
            tokio::select! {
                () = answers.changed.notified() => {}
                () = sleep(POLL.1) => {}
                () = &mut limit => return Err(Stop::Deadline),
            }
        }
    }

    /// Waits until the durable cursor covers everything that was read.
    async fn settle(&mut self) -> Result<(), Stop> {
        let shutdown = self.outbox.shutdown.clone();
        self.landing(shutdown.cancelled()).await?;
        self.save().await
    }

    /// Has everything in the producer answered.
    async fn abandon(&mut self) {
        let producer = &self.outbox.producer;
        self.flight.abandon(|sent| producer.purge(sent)).await;
    }

    /// Makes the cursor durable.
    async fn save(&mut self) -> Result<(), Stop> {
        let Some(id) = self.unsaved else { return Ok(()) };
        // What another Kafka has acknowledged counts for nothing.
        if !self.is_same_kafka().await? {
            return Ok(());
        }
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
        if self.doubted.elapsed() > DOUBT {
            self.doubted = Instant::now();
            self.outbox.producer.doubt_topics();
        }
        let oldest = self.flight.oldest().or(self.waits_since);
        self.outbox.metrics.oldest.set(oldest.map_or(0.0, |oldest| (now() - oldest).max(0.0)));
        if self.flight.waits().is_some_and(|waits| waits > UNANSWERED) {
            let trouble = self.outbox.producer.trouble();
            self.outbox.state.set(Phase::Waiting, format!("Kafka does not acknowledge: {trouble}"));
            if let Some(reason) = self.outbox.producer.fatal() {
                return Err(Stop::Producer(reason));
            }
        }
        self.outbox.metrics.held.set(i64::try_from(self.holds.len()).unwrap_or(i64::MAX));
        self.outbox.metrics.lanes.set(i64::try_from(self.lanes.len()).unwrap_or(i64::MAX));
        if oldest.is_some() && self.counted.is_none_or(|counted| counted.elapsed() > COUNT) {
            self.counted = Some(Instant::now());
            let count = sqlx::query(include_str!("sql/unpublished.sql")).bind(COUNT_UP_TO);
            let row = bounded(count.fetch_one(&mut self.connection)).await??;
            self.outbox.metrics.unpublished.set(row.try_get("rows")?);
        }
        Ok(())
    }

    /// What does not flow, by name.
    fn words(&self) -> String {
        let mut words = "publishing".to_owned();
        for (topic, lane) in &self.lanes {
            words.push_str(&format!("; {topic} waits: {}", lane.reason));
        }
        if self.holds.len() > 0 {
            words.push_str(&format!("; keys held: {}", self.holds.len()));
        }
        words
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

/// When it is polled.
struct Pace {
    due: Instant,
    pause: Duration,
}

impl Pace {
    /// At once, and often after that.
    fn new() -> Self {
        Self { due: Instant::now(), pause: POLL.0 }
    }

    fn is_due(&self) -> bool {
        self.due <= Instant::now()
    }

    fn polled(&mut self, began: Instant, page: Option<&Page>) {
        self.pause = if page.is_some() { POLL.0 } else { (self.pause * 9 / 8).min(POLL.1) };
        self.due = began + if page.is_some_and(|page| page.behind > 0) { Duration::ZERO } else { self.pause };
    }
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |now| now.as_secs_f64())
}
