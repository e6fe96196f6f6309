//! Why a record cannot be published now, and whose fault that is.

use rdkafka::error::RDKafkaErrorCode;

/// What a refusal says something about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// This record will be refused again.
    Record,
    /// Every record of the topic is refused, until somebody mends the topic.
    Topic,
    /// Nothing: it may go well the next time.
    Nobody,
}

/// Why a record cannot be published now. Nothing is lost: it waits in the outbox.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The broker does not know the topic.
    #[error("topic {0} does not exist: create it (`orderly topics apply`)")]
    NoTopic(String),
    /// The topic has grown or was made anew.
    #[error(
        "topic {topic} had {before} partitions and has {now}: keys would move and lose their order; once its consumers \
         have read all of it, run `outbox-relay repartition`"
    )]
    PartitionsChanged {
        /// With prefix.
        topic: String,
        /// When it was first published to.
        before: i32,
        /// As the broker says.
        now: i32,
    },
    /// Its records are to go by another client, once those that are on their way have arrived.
    #[error("the max.message.bytes of topic {0} has changed; it goes on in a moment")]
    LimitChanged(String),
    /// The row names a partition that the topic has not.
    #[error("topic {topic} has no partition {partition}")]
    NoPartition {
        /// With prefix.
        topic: String,
        /// As the row says.
        partition: i32,
    },
    /// Larger than the topic takes.
    #[error("its record has {size} bytes, and topic {topic} takes at most {limit} (max.message.bytes)")]
    TooLarge {
        /// With prefix.
        topic: String,
        /// Key, headers, payload and what Kafka adds to them, uncompressed.
        size: usize,
        /// Of the topic.
        limit: usize,
    },
    /// The header bytes are not what the outbox crate writes.
    #[error("its headers cannot be read: {0}")]
    Headers(String),
    /// The broker, or the client for it, said no.
    #[error("{topic} refused it: {reason}")]
    Kafka {
        /// With prefix, and the partition where it is known.
        topic: String,
        /// The client's words.
        reason: String,
        /// The protocol's.
        code: Option<RDKafkaErrorCode>,
    },
    /// Another outbox has emptied the shared producer; nothing is wrong with the record.
    #[error("the producer was emptied")]
    Purged {
        /// Whether it was on its way, and may have arrived.
        sent: bool,
    },
    /// No broker answered.
    #[error("Kafka does not answer: {0}")]
    Away(String),
}

impl Refusal {
    /// A name for it, of which there are few.
    pub fn kind(&self) -> String {
        match self {
            Self::NoTopic(_) => "NoTopic".to_owned(),
            Self::PartitionsChanged { .. } => "PartitionsChanged".to_owned(),
            Self::LimitChanged(_) => "LimitChanged".to_owned(),
            Self::NoPartition { .. } => "NoPartition".to_owned(),
            Self::TooLarge { .. } => "TooLarge".to_owned(),
            Self::Headers(_) => "Headers".to_owned(),
            Self::Kafka { code: Some(code), .. } => format!("{code:?}"),
            Self::Kafka { code: None, .. } => "_OTHER".to_owned(),
            Self::Purged { .. } => "Purged".to_owned(),
            Self::Away(_) => "Away".to_owned(),
        }
    }

    /// Whose fault it is, if the record was refused alone: a batch is refused as a whole.
    pub fn blame(&self) -> Blame {
        use RDKafkaErrorCode as Code;
        match self {
            Self::NoTopic(_) | Self::PartitionsChanged { .. } => Blame::Topic,
            Self::NoPartition { .. } | Self::TooLarge { .. } | Self::Headers(_) => Blame::Record,
            Self::LimitChanged(_) | Self::Purged { .. } | Self::Away(_) => Blame::Nobody,
            Self::Kafka { code, .. } => match code {
                Some(
                    Code::UnknownTopicOrPartition
                    | Code::UnknownTopic
                    | Code::UnknownPartition
                    | Code::TopicAuthorizationFailed
                    | Code::InvalidTopic
                    | Code::PolicyViolation,
                ) => Blame::Topic,
                Some(
                    Code::MessageSizeTooLarge
                    | Code::InvalidMessage
                    | Code::InvalidMessageSize
                    | Code::InvalidRecord
                    | Code::InvalidTimestamp
                    | Code::InvalidArgument
                    | Code::UnsupportedForMessageFormat,
                ) => Blame::Record,
                _ => Blame::Nobody,
            },
        }
    }
}
