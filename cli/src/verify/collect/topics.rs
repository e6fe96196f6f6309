//! The topics, read from end to end by partition: no group, so nothing is committed and nobody is rebalanced.

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use rdkafka::{
    ClientConfig, Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    error::KafkaError,
    message::{BorrowedMessage, Headers as _},
};
use uuid::Uuid;

use super::{digest, retention};
use crate::{
    platform::Platform,
    verify::facts::{EventType, Group, Key, Log, Record, Source, Span, Stray, Topic},
};

/// Longest wait for one answer of the brokers, and for the next record.
const PATIENCE: Duration = Duration::from_secs(15);
/// Strays that are kept of a topic; more say nothing new.
const STRAYS: usize = 1000;

/// First and next offset of each partition.
pub(in crate::verify) type Watermarks = BTreeMap<i32, (i64, i64)>;

/// A client that may ask for a group's offsets and read partitions; it joins nothing.
pub(in crate::verify) fn client(kafka: &str, group: &str) -> anyhow::Result<BaseConsumer> {
    ClientConfig::new()
        .set("bootstrap.servers", kafka)
        .set("client.id", "orderly-verify")
        .set("group.id", group)
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("enable.partition.eof", "true")
        .set("auto.offset.reset", "error")
        .set("isolation.level", "read_committed")
        .set("queued.max.messages.kbytes", "16384")
        // Only what is there is read; a broker that waits for more keeps the other partitions waiting, too.
        .set("fetch.wait.max.ms", "10")
        .set("log_level", "2")
        .create()
        .context("could not make a Kafka client")
}

/// Asks where the partitions of a topic begin and end.
pub(in crate::verify) fn watermarks(client: &BaseConsumer, topic: &str) -> anyhow::Result<Watermarks> {
    let ask = || -> Result<Watermarks, KafkaError> {
        let metadata = client.fetch_metadata(Some(topic), PATIENCE)?;
        let known = metadata.topics().iter().filter(|known| known.name() == topic);
        let partitions = known.flat_map(|known| known.partitions().iter().map(|partition| partition.id()));
        partitions.map(|id| Ok((id, client.fetch_watermarks(topic, id, PATIENCE)?))).collect()
    };
    let watermarks = ask().with_context(|| format!("topic {topic} could not be read; is Kafka up?"))?;
    if watermarks.is_empty() {
        bail!("topic {topic} does not exist; run `orderly topics apply`, or name the right --prefix");
    }
    Ok(watermarks)
}

/// How many records the group has not committed yet, in all partitions of its topic.
pub(in crate::verify) fn lag(client: &BaseConsumer, topic: &str, ends: &Watermarks) -> anyhow::Result<i64> {
    let mut partitions = TopicPartitionList::new();
    for &partition in ends.keys() {
        partitions.add_partition(topic, partition);
    }
    let committed = client
        .committed_offsets(partitions, PATIENCE)
        .with_context(|| format!("committed offsets of {topic} could not be read; is Kafka up?"))?;
    Ok(committed
        .elements()
        .iter()
        .filter_map(|element| {
            let (low, high) = ends.get(&element.partition())?;
            Some(match element.offset() {
                Offset::Offset(committed) => high - committed,
                // Nothing was ever committed, so everything is unread.
                _ => high - low,
            })
        })
        .map(|lag| lag.max(0))
        .sum())
}

/// Reads every record of every topic, up to the ends at the time of asking.
pub(super) async fn read(platform: &Platform) -> anyhow::Result<Log> {
    // librdkafka's calls block, and it takes a while to end a client, so each topic has a client and a thread.
    let read = |&topic: &Topic| {
        let (kafka, prefix) = (platform.kafka().to_owned(), platform.prefix().to_owned());
        tokio::task::spawn_blocking(move || read_topic(&client(&kafka, "orderly-verify")?, &prefix, topic))
    };
    let topics: Vec<_> = Topic::ALL.iter().map(read).collect();
    let mut log = Log::default();
    for topic in topics {
        let Log { records, strays, partitions } = topic.await??;
        log.records.extend(records);
        log.strays.extend(strays);
        log.partitions.extend(partitions);
    }
    // Asked last: nothing that is removed meanwhile is younger.
    let expired = retention::expired_ms(platform).await?;
    for ((topic, _), span) in &mut log.partitions {
        span.expired_ms = expired.get(topic).copied().unwrap_or(i64::MIN);
    }
    log.records.sort_unstable_by(|one, other| one.place().cmp(&other.place()));
    Ok(log)
}

/// Every group with its client, for asking again and again.
pub(in crate::verify) fn groups(kafka: &str, prefix: &str) -> anyhow::Result<Vec<(Group, BaseConsumer)>> {
    Group::ALL.into_iter().map(|group| Ok((group, client(kafka, &format!("{prefix}{group}"))?))).collect()
}

fn read_topic(client: &BaseConsumer, prefix: &str, topic: Topic) -> anyhow::Result<Log> {
    let mut log = Log::default();
    let name = format!("{prefix}{topic}");
    let ends = watermarks(client, &name)?;
    let mut unread: HashMap<i32, i64> = HashMap::new();
    let mut partitions = TopicPartitionList::new();
    for (&partition, &(low, high)) in &ends {
        log.partitions.insert((topic, partition), Span { low, first_ms: None, expired_ms: i64::MIN });
        if low < high {
            partitions.add_partition_offset(&name, partition, Offset::Offset(low))?;
            unread.insert(partition, high);
        }
    }
    if unread.is_empty() {
        return Ok(log);
    }
    client.assign(&partitions).with_context(|| format!("topic {name} could not be read"))?;
    let mut last_answer = Instant::now();
    while !unread.is_empty() {
        match client.poll(Duration::from_millis(500)) {
            None if last_answer.elapsed() < PATIENCE => continue,
            None => bail!("topic {name} gave no record for {} s; is Kafka up?", PATIENCE.as_secs()),
            // Also ends a partition whose last offsets hold no record.
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                unread.remove(&partition);
            }
            Some(Err(error)) => {
                return Err(error).with_context(|| format!("topic {name} could not be read; try again"));
            }
            Some(Ok(message)) => {
                let (partition, offset) = (message.partition(), message.offset());
                let Some(&high) = unread.get(&partition) else { continue };
                if offset < high {
                    keep(&message, topic, &mut log);
                }
                if offset + 1 >= high {
                    unread.remove(&partition);
                }
            }
        }
        last_answer = Instant::now();
    }
    Ok(log)
}

fn keep(message: &BorrowedMessage<'_>, topic: Topic, log: &mut Log) {
    let (partition, offset) = (message.partition(), message.offset());
    if let Some(span) = log.partitions.get_mut(&(topic, partition)) {
        span.first_ms = span.first_ms.or(message.timestamp().to_millis());
    }
    match parse(message, topic) {
        Ok(record) => log.records.push(record),
        Err(problem) if log.strays.len() < STRAYS => {
            log.strays.push(Stray { topic, partition, offset, problem });
        }
        Err(_) => {}
    }
}

fn parse(message: &BorrowedMessage<'_>, topic: Topic) -> Result<Record, String> {
    let mut encoded = Vec::new();
    let mut texts: HashMap<&str, &str> = HashMap::new();
    for header in message.headers().into_iter().flat_map(|headers| headers.iter()) {
        encode_header(&mut encoded, header.key, header.value);
        if let Some(Ok(text)) = header.value.map(std::str::from_utf8) {
            texts.insert(header.key, text);
        }
    }
    let header = |name: &str| texts.get(name).copied().ok_or_else(|| format!("it has no header {name}"));
    let unknown = |name: &str, text: &str| format!("its {name} is {text:?}");
    let (id, source, event_type) = (header("ce_id")?, header("ce_source")?, header("ce_type")?);
    let sequence = header("ce_sequence")?;
    let key = message.key().unwrap_or_default();
    Ok(Record {
        topic,
        partition: message.partition(),
        offset: message.offset(),
        key: Key::parse(topic, key).ok_or_else(|| unknown("key", &String::from_utf8_lossy(key)))?,
        source: Source::parse(source).ok_or_else(|| unknown("ce_source", source))?,
        event_type: EventType::parse(event_type).ok_or_else(|| unknown("ce_type", event_type))?,
        sequence: sequence.parse().map_err(|_| unknown("ce_sequence", sequence))?,
        id: Uuid::try_parse(id).map_err(|_| unknown("ce_id", id))?,
        digest: digest(topic.name(), message.key(), &encoded, message.payload()),
    })
}

/// As the outbox stores headers: length and name, length (-1: null) and value, lengths in four bytes, big endian.
fn encode_header(encoded: &mut Vec<u8>, name: &str, value: Option<&[u8]>) {
    let length = |bytes: &[u8]| i32::try_from(bytes.len()).unwrap_or(i32::MAX).to_be_bytes();
    encoded.extend(length(name.as_bytes()));
    encoded.extend(name.as_bytes());
    encoded.extend(value.map_or((-1_i32).to_be_bytes(), length));
    encoded.extend(value.unwrap_or_default());
}
