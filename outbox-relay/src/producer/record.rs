//! A row as a Kafka record.

use std::sync::Arc;

use outbox::Headers;
use telemetry::{SpanContext, TraceId};

use super::{Refusal, Topic, client::Client};
use crate::{
    partitioner,
    reader::Row,
    trace::{self, Sending},
};

/// What a batch of one record has around it: the header of the batch, and the lengths, the attributes, the differences of
/// time and offset of the record (KIP-98, message format 2), each at its largest.
const FRAME_BYTES: usize = 61 + 36;
/// The two lengths of a header, at their largest.
const HEADER_FRAME_BYTES: usize = 10;

/// A row that has been found publishable.
pub struct Record<'r> {
    /// The row it is made of.
    pub row: &'r Row,
    /// With prefix.
    pub topic: Arc<str>,
    pub(super) partition: i32,
    pub(super) headers: Headers,
    /// Where the event was created, if that is sampled.
    created: Option<SpanContext>,
    is_copy: bool,
    pub(super) client: Arc<Client>,
}

impl<'r> Record<'r> {
    /// Finds what Kafka would refuse before Kafka does, for a refusal there takes the whole batch.
    pub fn new(row: &'r Row, topic: Topic) -> Result<Self, Refusal> {
        let headers = Headers::decode(&row.headers).map_err(|error| Refusal::Headers(error.to_string()))?;
        if headers.iter().any(|(name, _)| name.contains('\0')) {
            return Err(Refusal::Headers("a name has a zero byte".to_owned()));
        }
        // Kafka looks at the compressed size. This rule does not depend on what a payload can be compressed to.
        let size = row.size() + FRAME_BYTES + HEADER_FRAME_BYTES * headers.iter().len();
        if size > topic.limit {
            return Err(Refusal::TooLarge { topic: topic.name.to_string(), size, limit: topic.limit });
        }
        let partition = match row.partition {
            Some(partition) if (0..topic.partitions).contains(&partition) => partition,
            Some(partition) => return Err(Refusal::NoPartition { topic: topic.name.to_string(), partition }),
            None => partitioner::partition(row.key.as_deref(), row.id, topic.partitions),
        };
        let created = trace::created(&headers);
        Ok(Self { row, topic: topic.name, partition, headers, created, is_copy: false, client: topic.client })
    }

    /// The record is a copy of an event.
    pub fn of_copy(self) -> Self {
        Self { is_copy: true, ..self }
    }

    /// The event's trace, if it is sampled.
    pub fn trace(&self) -> Option<TraceId> {
        self.created.as_ref().map(SpanContext::trace_id)
    }

    /// What is to be told of a sampled event that is handed to the producer now.
    pub(super) fn sending(&self) -> Option<Sending> {
        let sending = Sending::now(self.created.clone()?, self.row, &self.headers, Some(self.partition));
        Some(if self.is_copy { sending.of_copy() } else { sending })
    }
}
