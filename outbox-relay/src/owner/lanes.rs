//! Topics that cannot be published to: each has a lane, a cursor of its own, so that all other topics flow.
//!
//! A lane begins where the durable cursor stands and reads its topic's rows up to where the main cursor is by then,
//! window after window. When it has caught up while the main cursor stood still, it is gone.

use std::time::Duration;

use sqlx::Row as _;
use tokio::time::Instant;

use super::Owner;
use crate::{
    cursor::Position,
    flight::take_back,
    lease,
    reader::{Page, Reader},
    stop::{Stop, bounded},
};

/// How often a topic that could not be published to is asked about.
const ASK: Duration = Duration::from_secs(1);

/// A topic with a cursor of its own.
pub(super) struct Lane {
    reader: Reader,
    /// Everything of the topic up to here is acknowledged.
    landed: Position,
    /// Why the topic has a lane.
    pub reason: String,
    due: Instant,
}

impl Owner<'_> {
    /// Reads the lanes that an earlier owner has left.
    pub(super) async fn load_lanes(&mut self) -> Result<(), Stop> {
        let lanes = sqlx::query(include_str!("../sql/lanes.sql"));
        for lane in bounded(lanes.fetch_all(&mut self.connection)).await?? {
            let topic: String = lane.try_get("topic")?;
            let landed = Position::new(lane.try_get("snap")?, lane.try_get("win")?, lane.try_get("win_id")?)?;
            let reader = self.lane_reader(landed.clone(), &topic);
            let reason = lane.try_get("reason")?;
            self.left.insert(topic.clone(), lane.try_get("since")?);
            self.lanes.insert(topic, Lane { reader, landed, reason, due: Instant::now() });
        }
        Ok(())
    }

    /// Gives a topic a lane, from the durable cursor on. Nothing may be in flight, and the cursor must be saved.
    pub(super) async fn open_lane(&mut self, topic: &str, reason: String) -> Result<(), Stop> {
        let opened = sqlx::query(include_str!("../sql/open_lane.sql"))
            .bind(topic)
            .bind(&reason)
            .bind(self.lease.epoch)
            .bind(self.lease.owner);
        if bounded(opened.execute(&mut self.connection)).await??.rows_affected() == 0 {
            return Err(Stop::Lease(lease::Error::Fenced));
        }
        let landed = self.landed.clone();
        let reader = self.lane_reader(landed.clone(), topic);
        tracing::warn!(outbox = self.outbox.source.name, topic, reason, "a topic waits; all others flow");
        // The row that could not go is the topic's.
        if let Some(since) = self.waits_since {
            self.left.entry(topic.to_owned()).or_insert(since);
        }
        self.lanes.insert(topic.to_owned(), Lane { reader, landed, reason, due: Instant::now() + ASK });
        Ok(())
    }

    /// Lets every lane that is due go on by a page.
    pub(super) async fn go_on_lanes(&mut self) -> Result<(), Stop> {
        let now = Instant::now();
        let due: Vec<String> =
            self.lanes.iter().filter(|(_, lane)| lane.due <= now).map(|(topic, _)| topic.clone()).collect();
        for topic in due {
            let Some(mut lane) = self.lanes.remove(&topic) else { continue };
            let merged = self.turn(&topic, &mut lane).await;
            if matches!(merged, Ok(true)) {
                self.left.remove(&topic);
                tracing::info!(outbox = self.outbox.source.name, topic, "the topic has caught up");
                continue;
            }
            // Also when the turn has failed: without its lane the main cursor would publish the topic ahead of it.
            if merged.is_err() {
                lane.reader.restart(lane.landed.clone());
            }
            self.lanes.insert(topic, lane);
            merged?;
        }
        Ok(())
    }

    fn lane_reader(&self, landed: Position, topic: &str) -> Reader {
        Reader::of_topic(landed, self.server.clone(), topic.to_owned())
    }

    /// The rows of a lane's page from this one on wait; where there is none, what follows is no older than the last.
    fn leave_from(&mut self, topic: &str, page: &Page, row: usize) {
        if let Some(row) = page.rows.get(row).or(page.rows.last()) {
            self.left.insert(topic.to_owned(), row.created_at);
        }
    }

    async fn turn(&mut self, topic: &str, lane: &mut Lane) -> Result<bool, Stop> {
        match self.topic(topic).await? {
            Ok(_) => self.go_on(topic, lane).await,
            Err(refusal) => {
                lane.due = Instant::now() + ASK;
                lane.reason = refusal.to_string();
                Ok(false)
            }
        }
    }

    /// Whether the lane has caught up and is gone.
    async fn go_on(&mut self, topic: &str, lane: &mut Lane) -> Result<bool, Stop> {
        if let Some(sent) = self.page_of(topic, lane).await? {
            if !sent {
                lane.due = Instant::now() + ASK;
            }
            return Ok(false);
        }
        // The window is done; the next one ends where the main cursor is now, which stands still meanwhile.
        self.settle().await?;
        if !self.landed.has_no_window() {
            lane.due = Instant::now() + ASK;
            return Ok(false);
        }
        lane.reader.pin(&self.landed);
        let mut pages = 0;
        while let Some(sent) = self.page_of(topic, lane).await? {
            pages += 1;
            // More than a page: the others must not wait for all of it.
            if !sent || pages > 1 {
                return Ok(false);
            }
        }
        let merged = sqlx::query(include_str!("../sql/merge_lane.sql"))
            .bind(topic)
            .bind(self.lease.epoch)
            .bind(self.lease.owner);
        if bounded(merged.execute(&mut self.connection)).await??.rows_affected() == 0 {
            return Err(Stop::Lease(lease::Error::Fenced));
        }
        Ok(true)
    }

    /// Publishes the next page of a lane and waits for it: `None` when its window is done, `false` when it was refused.
    async fn page_of(&mut self, topic: &str, lane: &mut Lane) -> Result<Option<bool>, Stop> {
        let Some(page) = self.read(&mut lane.reader).await? else { return Ok(None) };
        self.leave_from(topic, &page, 0);
        let given = self.give(&page, Some(topic)).await?;
        let answer = self.answer(&given.sent.pending).await?;
        // Of a refused batch nothing more may be sent after what comes next.
        let purge = |sent| self.outbox.producer.purge(sent);
        take_back(&self.flight.answers(), || given.sent.pending.unanswered() > 0, purge).await;
        if let Some(name) = given.sent.topics.keys().next() {
            self.note_overtaken(Some(name)).await?;
        }
        let refused = match (answer, given.stopped) {
            // What another Kafka has acknowledged counts for nothing.
            (Ok(()), _) if given.rows > 0 && !self.is_same_kafka().await? => {
                Some(self.outbox.producer.trouble())
            }
            (Ok(()), stopped) => {
                if given.rows > 0 {
                    self.observe_published(&given.sent);
                    lane.landed = given.sent.after;
                    let saved = lane.landed.save_lane(topic, &self.lease, &mut self.connection);
                    if !bounded(saved).await?? {
                        return Err(Stop::Lease(lease::Error::Fenced));
                    }
                    self.leave_from(topic, &page, given.rows);
                }
                stopped.err().map(|stop| stop.words())
            }
            (Err(refusal), _) => {
                // A batch was refused, so its records go again, one at a time.
                self.careful_until = self.careful_until.max(given.sent.last_id);
                Some(refusal.to_string())
            }
        };
        if let Some(reason) = refused {
            lane.reason = reason;
            lane.reader.restart(lane.landed.clone());
            self.limits.remove(topic);
            self.outbox.producer.doubt_topics();
            return Ok(Some(false));
        }
        Ok(Some(true))
    }
}
