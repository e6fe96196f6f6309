//! What is in the topics: every record, in the order of each partition.

use std::time::{Duration, Instant};

use outbox::Headers;
use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    error::{KafkaError, RDKafkaErrorCode},
    message::{Headers as _, Message as _},
};
use uuid::Uuid;

/// How long reading to the end of the topics may take.
const WITHIN: Duration = Duration::from_secs(60);

/// One record.
#[derive(Clone, Debug)]
pub struct Record {
    /// Without prefix.
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
    pub key: Option<Vec<u8>>,
    pub headers: Headers,
    pub payload: Option<Vec<u8>>,
}

impl Record {
    /// `ce_id`.
    pub fn id(&self) -> Option<Uuid> {
        self.headers.text("ce_id")?.parse().ok()
    }
}

/// Reads topics, from their beginning on.
pub struct Records {
    consumer: BaseConsumer,
    prefix: String,
    places: Vec<Place>,
    read: Vec<Record>,
}

struct Place {
    /// With prefix.
    topic: String,
    partition: i32,
    /// The offset that is read next.
    next: i64,
    /// The offset up to which is read.
    end: i64,
}

fn is_new(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(RDKafkaErrorCode::UnknownPartition | RDKafkaErrorCode::UnknownTopicOrPartition)
    )
}

impl Records {
    /// Of these topics, named without prefix, and their partitions.
    pub fn of(kafka: &str, prefix: &str, topics: &[(&str, i32)]) -> anyhow::Result<Self> {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", kafka)
            // Asked for by the client; nothing is ever committed.
            .set("group.id", format!("{prefix}records"))
            .set("enable.auto.commit", "false")
            .set("fetch.wait.max.ms", "20")
            .create()?;
        let mut list = TopicPartitionList::new();
        let mut places = Vec::new();
        for (topic, partitions) in topics {
            let topic = format!("{prefix}{topic}");
            for partition in 0..*partitions {
                list.add_partition_offset(&topic, partition, Offset::Beginning)?;
                places.push(Place { topic: topic.clone(), partition, next: 0, end: 0 });
            }
        }
        consumer.assign(&list)?;
        Ok(Self { consumer, prefix: prefix.to_owned(), places, read: Vec::new() })
    }

    /// Everything up to what is the end of the topics now.
    pub fn read_to_the_end(&mut self) -> anyhow::Result<&[Record]> {
        // The tests' runtimes have more than one thread.
        tokio::task::block_in_place(|| self.read_on())?;
        Ok(&self.read)
    }

    fn read_on(&mut self) -> anyhow::Result<()> {
        let started = Instant::now();
        for place in &mut self.places {
            place.end = loop {
                match self.consumer.fetch_watermarks(&place.topic, place.partition, WITHIN) {
                    Ok((_, end)) => break end,
                    // The topic was made a moment ago, and the broker has not heard of it.
                    Err(error) if started.elapsed() < WITHIN && is_new(&error) => {
                        std::thread::sleep(Duration::from_millis(50));
                    }
                    Err(error) => return Err(error.into()),
                }
            };
        }
        while let Some(place) = self.places.iter().find(|place| place.next < place.end) {
            anyhow::ensure!(
                started.elapsed() < WITHIN,
                "{} has not been read to its end within {WITHIN:?}",
                place.topic
            );
            let Some(message) = self.consumer.poll(Duration::from_millis(100)) else { continue };
            let message = message?;
            let (topic, partition) = (message.topic(), message.partition());
            for place in &mut self.places {
                if place.topic == topic && place.partition == partition {
                    place.next = message.offset() + 1;
                }
            }
            let headers = message.headers().into_iter().flat_map(|headers| headers.iter());
            self.read.push(Record {
                topic: topic.trim_start_matches(&self.prefix).to_owned(),
                partition,
                offset: message.offset(),
                key: message.key().map(<[u8]>::to_vec),
                headers: headers
                    .map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec)))
                    .collect(),
                payload: message.payload().map(<[u8]>::to_vec),
            });
        }
        Ok(())
    }
}
