//! The consumer that notes when each event comes.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use rdkafka::{
    TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    message::Message as _,
};

use crate::bench::relay::{
    broker::{self, Seen},
    record,
};

/// How often the thread looks whether it is to stop.
const LOOK: Duration = Duration::from_millis(100);

/// A thread that consumes. Dropping this ends it.
#[derive(Debug)]
pub(super) struct Arrivals {
    stop: Arc<AtomicBool>,
    distinct: Arc<AtomicU64>,
    thread: Option<thread::JoinHandle<anyhow::Result<Arrived>>>,
}

/// What has come.
#[derive(Debug)]
pub(super) struct Arrived {
    /// When each event came first, by its number less the first one's.
    pub(super) at: Vec<Option<Instant>>,
    pub(super) distinct: u64,
    pub(super) repeats: u64,
    pub(super) overtaken: u64,
}

impl Arrivals {
    /// Consumes from these positions; events of other numbers are somebody else's.
    pub(super) fn start(
        address: &str,
        positions: &TopicPartitionList,
        first: u64,
        events: u64,
    ) -> anyhow::Result<Self> {
        let consumer = broker::consumer(address)?;
        consumer.assign(positions)?;
        let (stop, distinct) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let thread = thread::Builder::new().name("arrivals".to_owned()).spawn({
            let (stop, distinct) = (Arc::clone(&stop), Arc::clone(&distinct));
            move || consume(&consumer, first, events, &stop, &distinct)
        })?;
        Ok(Self { stop, distinct, thread: Some(thread) })
    }

    /// How many events have come so far.
    pub(super) fn distinct(&self) -> u64 {
        self.distinct.load(Ordering::Relaxed)
    }

    pub(super) async fn stop(mut self) -> anyhow::Result<Arrived> {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().context("it was stopped before")?;
        let joined = tokio::task::spawn_blocking(move || thread.join()).await?;
        joined.map_err(|_| anyhow::anyhow!("the consumer's thread panicked"))?
    }
}

impl Drop for Arrivals {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn consume(
    consumer: &BaseConsumer,
    first: u64,
    events: u64,
    stop: &AtomicBool,
    distinct: &AtomicU64,
) -> anyhow::Result<Arrived> {
    let mut at = vec![None; usize::try_from(events)?];
    let mut seen = Seen::default();
    while !stop.load(Ordering::Relaxed) {
        let Some(message) = consumer.poll(LOOK) else { continue };
        let (message, now) = (message?, Instant::now());
        let number = record::number(&message).context("the topic holds a record of somebody else")?;
        let Some(slot) = number.checked_sub(first).and_then(|index| at.get_mut(usize::try_from(index).ok()?))
        else {
            continue;
        };
        if seen.add(number, message.key().unwrap_or_default()) {
            *slot = Some(now);
            distinct.store(seen.distinct, Ordering::Relaxed);
        }
    }
    Ok(Arrived { at, distinct: seen.distinct, repeats: seen.repeats, overtaken: seen.overtaken })
}
