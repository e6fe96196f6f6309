//! The holder of the lease: reads pages ahead, sends them, and moves the cursor over what is acknowledged.

mod give;
mod lanes;
mod pace;
mod refusals;
mod transactions;
mod watch;

use std::{
    collections::{BTreeMap, HashMap},
    future::Future,
    pin::pin,
    time::Duration,
};

use sqlx::PgConnection;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::{
    cursor::Position,
    flight::Flight,
    lease::{self, Lease},
    metrics::TopicMetrics,
    outbox::Outbox,
    producer::Refusal,
    reader::{Next, Page, Reader},
    session::{Server, Session},
    state::Phase,
    stop::{Stop, bounded},
    wake::Wake,
    window::OPEN_WITHIN,
};

use self::{
    lanes::Lane,
    pace::{POLL, Pace},
    refusals::Holds,
    transactions::Transactions,
    watch::WATCH,
};

/// How long what was refused waits: doubles from the first to the second.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// How long the cursor's move is only in memory while pages flow: the first, and up to the second while the cursor's table
/// grows. Its old row versions can only be reused when no session holds a snapshot that shows them.
const SAVE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// Bytes of the cursor's table above which it grows.
const CURSOR_BYTES: i64 = 64 << 10;

/// The one who publishes an outbox.
pub struct Owner<'o> {
    outbox: &'o Outbox,
    connection: PgConnection,
    server: Server,
    lease: Lease,
    flight: Flight,
    /// Everything up to here is acknowledged.
    landed: Position,
    /// The last acknowledged id that the durable cursor does not cover yet.
    unsaved: Option<i64>,
    saved: Instant,
    /// When the cursor is saved again after that.
    save_after: Duration,
    counted: Option<Instant>,
    watched: Instant,
    /// When the oldest row was appended that is known to wait and is not in flight.
    waits_since: Option<f64>,
    /// By the topic's name without prefix.
    topics: HashMap<String, TopicMetrics>,
    transactions: Transactions,
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
    /// When the first row was appended that waits in a topic's lane. Not in the lane, which is taken out for its turn.
    left: BTreeMap<String, f64>,
}

impl<'o> Owner<'o> {
    /// Begins at a position that was read with the lease. `waits_since` is when the oldest row was appended that was
    /// known to wait when this process had the lease last.
    pub fn new(
        outbox: &'o Outbox,
        session: Session,
        lease: Lease,
        position: Position,
        waits_since: Option<f64>,
    ) -> Self {
        Self {
            outbox,
            connection: session.connection,
            lease,
            flight: Flight::default(),
            landed: position,
            unsaved: None,
            saved: Instant::now(),
            save_after: SAVE.0,
            counted: None,
            watched: Instant::now(),
            waits_since,
            topics: HashMap::new(),
            transactions: Transactions::default(),
            wake: Wake::listen(session.server.options().clone()),
            server: session.server,
            ring_due: Instant::now(),
            careful_until: 0,
            partitions: HashMap::new(),
            limits: HashMap::new(),
            kafka: None,
            doubted: Instant::now(),
            holds: Holds::default(),
            released: Instant::now(),
            lanes: BTreeMap::new(),
            left: BTreeMap::new(),
        }
    }

    /// Publishes until the shutdown, or until the session is of no more use. Nothing is in flight afterwards, and
    /// `waits_since` says since when something waits.
    pub async fn publish(mut self, waits_since: &mut Option<f64>) -> Result<(), Stop> {
        let ended = match self.flow().await {
            Ok(()) => self.landing(sleep(self.outbox.drain)).await,
            Err(stop) => Err(stop),
        };
        *waits_since = self.oldest();
        self.abandon().await;
        self.note_overtaken(None).await?;
        match ended {
            Ok(()) | Err(Stop::Deadline) => self.leave().await,
            Err(stop) => Err(stop),
        }
    }

    async fn flow(&mut self) -> Result<(), Stop> {
        self.holds = bounded(Holds::load(&mut self.connection)).await??;
        self.load_lanes().await?;
        let mut reader = Reader::new(self.landed.clone(), self.server.clone());
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
        if self.saved.elapsed() >= self.save_after {
            // Not before the poll: what waits there is in more of a hurry.
            self.save().await?;
        }
        if reads && self.flight.is_empty() {
            if self.landed != *reader.position() {
                // A window that was read to its end before, by somebody who could not say so any more.
                self.landed = reader.position().clone();
                self.unsaved.get_or_insert(0);
            }
            self.waits_since = None;
            self.outbox.metrics.waits_since(self.oldest());
            self.show_unpublished(0);
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
                Next::Window(opening) => {
                    // Sorting may take its time, and nothing is on its way that says how old the backlog is.
                    self.count().await?;
                    let shutdown = self.outbox.shutdown.clone();
                    let opening = async {
                        tokio::select! {
                            keys = timeout(OPEN_WITHIN, opening.open()) => Some(keys),
                            () = shutdown.cancelled() => None,
                        }
                    };
                    match self.while_watching(opening).await? {
                        Some(keys) => reader.begin(keys.map_err(|_| Stop::Silence)??),
                        None => return Ok(None),
                    }
                }
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
        self.note_overtaken(None).await?;
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
        let in_flight = self.flight.rows();
        self.outbox.metrics.in_flight.set_count(in_flight);
        self.show_unpublished(in_flight + page.behind);
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
            self.outbox.metrics.in_flight.set_count(self.flight.rows());
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
        self.outbox.metrics.in_flight.set_count(0);
    }

    /// Makes the cursor durable.
    async fn save(&mut self) -> Result<(), Stop> {
        let Some(id) = self.unsaved else { return Ok(()) };
        // What another Kafka has acknowledged counts for nothing.
        if !self.is_same_kafka().await? {
            return Ok(());
        }
        let saved = bounded(self.landed.save(&self.lease, id, &mut self.connection)).await??;
        let table_bytes = saved.ok_or(Stop::Lease(lease::Error::Fenced))?;
        (self.unsaved, self.saved, self.save_after) = (None, Instant::now(), save_after(table_bytes));
        Ok(())
    }

    /// The orderly end: the cursor covers what was acknowledged, and a standby may begin at once.
    async fn leave(mut self) -> Result<(), Stop> {
        self.save().await?;
        bounded(self.lease.release(&mut self.connection)).await??;
        Ok(())
    }
}

/// The larger the cursor's table, the less often it gets another row version.
fn save_after(table_bytes: i64) -> Duration {
    let times = u32::try_from(table_bytes / CURSOR_BYTES).unwrap_or(u32::MAX).max(1);
    SAVE.0.saturating_mul(times.saturating_mul(times)).min(SAVE.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_whose_table_grows_is_saved_less_often() {
        let millis = |kibibytes: i64| save_after(kibibytes << 10).as_millis();
        assert_eq!([0, 32, 127, 128, 192, 1 << 20].map(millis), [50, 50, 50, 200, 450, 1_000]);
    }
}
