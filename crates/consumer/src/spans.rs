//! The spans of records and of batches, by the semantic conventions for messaging:
//! <https://opentelemetry.io/docs/specs/semconv/messaging/messaging-spans/>.
//!
//! A record is processed in the trace of its event, also in a batch: its span is a child of the creation context in its
//! headers, and linked to it. What the records of a batch share is in a trace of its own, linked with all of theirs. A
//! repeat and a replay begin traces of their own too, linked to the creation context: they belong to an order's story, but
//! not to the time that it took.
//!
//! Of a record that is not sampled there is a span only where a handler or the log asks for it.

use std::time::{Duration, SystemTime};

use telemetry::{
    KeyValue, SpanContext, SpanKind, TraceId, propagation,
    span::{Finished, context, link, set_parent},
};
use tracing::{Span, field, info_span};
use uuid::Uuid;

use crate::{Error, Message, batch::Stopped, buffer::Read, error::Failure};

/// Creation contexts that the span of a batch is linked to: as many as SDKs keep.
const MAX_LINKS: usize = 128;
/// The longest key that is shown.
const MAX_KEY_BYTES: usize = 128;

/// The span that an event was created in, as its record says.
enum Creation {
    Sampled(SpanContext),
    /// Nothing of its trace is recorded.
    Unsampled,
    /// Whoever created it says nothing.
    Unknown,
}

impl Creation {
    fn sampled(self) -> Option<SpanContext> {
        match self {
            Self::Sampled(creation) => Some(creation),
            Self::Unsampled | Self::Unknown => None,
        }
    }
}

impl Message {
    /// The span in which it is processed, in the trace of whoever sent it. Within a batch it is the same each time.
    pub fn span(&self) -> Span {
        if let Some(span) = &self.span {
            return span.clone();
        }
        match self.creation() {
            Creation::Sampled(creation) => self.child_of(&creation, None),
            Creation::Unknown => self.new_span(None),
            Creation::Unsampled => {
                // For log lines, and for the trace id of what it causes.
                let span = info_span!(
                    parent: None,
                    "process",
                    messaging.destination.name = self.topic,
                    messaging.destination.partition.id = %self.partition,
                    messaging.kafka.offset = self.offset,
                    messaging.message.id = self.known_id(),
                    messaging.kafka.message.key = self.shown_key(),
                );
                set_parent(&span, self.created_in().as_ref());
                span
            }
        }
    }

    /// The span of its replay, in a trace of its own.
    pub(crate) fn replay_span(&self, group: &str, replay: Uuid) -> Span {
        let span = self.new_span(Some(group));
        span.record("orderly.replay.id", field::display(replay));
        self.creation().sampled().inspect(|creation| link(&span, creation));
        span
    }

    fn child_of(&self, creation: &SpanContext, group: Option<&str>) -> Span {
        let span = self.new_span(group);
        set_parent(&span, Some(creation));
        link(&span, creation);
        span
    }

    fn new_span(&self, group: Option<&str>) -> Span {
        info_span!(
            parent: None,
            "process",
            otel.name = %format_args!("process {}", self.topic),
            otel.kind = "consumer",
            otel.status_code = field::Empty,
            otel.status_description = field::Empty,
            error.type = field::Empty,
            messaging.system = "kafka",
            messaging.operation.name = "process",
            messaging.operation.type = "process",
            messaging.destination.name = self.topic,
            messaging.destination.partition.id = %self.partition,
            messaging.kafka.offset = self.offset,
            messaging.message.id = self.known_id(),
            messaging.kafka.message.key = self.shown_key(),
            messaging.consumer.group.name = group,
            orderly.repeat = field::Empty,
            orderly.replay.id = field::Empty,
        )
    }

    /// Most records are not sampled, which is seen without reading all of it.
    fn creation(&self) -> Creation {
        let Some(traceparent) = self.headers.text("traceparent") else { return Creation::Unknown };
        let flags = traceparent.get(53..55).and_then(|flags| u8::from_str_radix(flags, 16).ok());
        if flags.is_some_and(|flags| flags & 1 == 0) {
            return Creation::Unsampled;
        }
        self.created_in().map_or(Creation::Unknown, Creation::Sampled)
    }

    fn created_in(&self) -> Option<SpanContext> {
        propagation::read(self.headers.text("traceparent"), self.headers.text("tracestate"))
    }

    fn known_id(&self) -> Option<field::DisplayValue<Uuid>> {
        (!self.id.is_nil()).then(|| field::display(self.id))
    }

    fn shown_key(&self) -> Option<&str> {
        let key = self.key.as_deref().filter(|key| key.len() <= MAX_KEY_BYTES)?;
        std::str::from_utf8(key).ok()
    }

    /// From Kafka's timestamp until it was taken up.
    fn record_wait(&self, creation: &SpanContext, group: &'static str, until: SystemTime) {
        let Some(millis) = self.timestamp.and_then(|millis| u64::try_from(millis).ok()) else { return };
        let start = SystemTime::UNIX_EPOCH + Duration::from_millis(millis);
        Finished {
            name: format!("wait {}", self.topic).into(),
            kind: SpanKind::Internal,
            parent: creation,
            links: &[],
            // Clocks differ.
            start: start.min(until),
            end: until,
            attributes: vec![
                KeyValue::new("messaging.system", "kafka"),
                KeyValue::new("messaging.destination.name", self.topic.clone()),
                KeyValue::new("messaging.destination.partition.id", self.partition.to_string()),
                KeyValue::new("messaging.kafka.offset", self.offset),
                KeyValue::new("messaging.consumer.group.name", group),
            ],
            error: None,
        }
        .record();
    }
}

/// The spans of one attempt at a batch.
pub(crate) struct Spans {
    group: &'static str,
    began: SystemTime,
    /// Of what the records share; none where there is one record only, or none that is sampled.
    shared: Unfinished,
}

impl Spans {
    pub fn begin(group: &'static str, reads: &[Read]) -> Self {
        let shared = if reads.len() > 1 { shared(group, reads) } else { None };
        Self { group, began: SystemTime::now(), shared: Unfinished(shared) }
    }

    /// In which a batch of several is applied.
    pub fn shared(&self) -> Span {
        self.shared.0.clone().unwrap_or_else(Span::none)
    }

    /// The inbox has said which records are new: each has its span from now on. Repeats have had theirs.
    pub fn enter(&self, reads: &mut [Read], new: &[bool]) {
        let shared = self.shared.0.as_ref().map(context);
        for (read, is_new) in reads.iter_mut().zip(new) {
            let message = &read.message;
            let span = match message.creation() {
                Creation::Sampled(creation) if *is_new => {
                    if !std::mem::replace(&mut read.has_waited, true) {
                        message.record_wait(&creation, self.group, self.began);
                    }
                    message.child_of(&creation, Some(self.group))
                }
                Creation::Sampled(creation) => {
                    let span = message.new_span(Some(self.group));
                    span.record("orderly.repeat", true);
                    link(&span, &creation);
                    span
                }
                Creation::Unknown if *is_new => message.new_span(Some(self.group)),
                Creation::Unknown | Creation::Unsampled => continue,
            };
            shared.as_ref().inspect(|shared| link(&span, shared));
            if *is_new {
                read.message.span = Some(span);
            } else {
                end(&span);
            }
        }
    }

    /// In which the rest of a batch of one is applied.
    pub fn only(&self, reads: &[Read]) -> Span {
        match reads {
            [only] => only.message.span.clone().unwrap_or_else(Span::none),
            _ => Span::none(),
        }
    }

    /// The attempt is over, and so are its spans. Returns the sampled trace in which it was.
    pub fn end(self, reads: &mut [Read], stopped: Option<&Stopped>) -> Option<TraceId> {
        let of_one =
            if let [only] = reads { only.message.span.as_ref().and_then(sampled_trace) } else { None };
        let of_all = self.shared.0.as_ref().and_then(sampled_trace);
        match stopped {
            None => {
                take_all(reads).for_each(|span| end(&span));
                self.shared.succeed();
            }
            Some(stopped) => {
                if let Stopped::Blocked { index, failure } = stopped
                    && let Some(span) = reads.get_mut(*index).and_then(|read| read.message.span.take())
                {
                    fail(&span, failure.kind.as_str(), &failure.error);
                    end(&span);
                }
                let is_only = reads.len() == 1;
                let (class, words) = stopped.describe(is_only);
                roll_back(reads, class, &words);
                self.shared.fail(class, &words);
            }
        }
        of_all.or(of_one)
    }
}

impl Stopped {
    /// A class of errors, and what happened.
    fn describe(&self, is_only: bool) -> (&'static str, String) {
        match self {
            Self::Record(Failure { kind, error }) if is_only => (kind.as_str(), error.clone()),
            Self::Record(failure) => ("rollback", format!("a record failed: {}", failure.error)),
            Self::Blocked { failure, .. } => ("rollback", format!("a record has to wait: {}", failure.error)),
            Self::Ahead { .. } => ("rollback", "the group is ahead of its effects".to_owned()),
            Self::Error(error) => (error.class(), error.words()),
        }
    }
}

/// Ends the spans of records that have not taken effect.
pub(crate) fn roll_back(reads: &mut [Read], class: &'static str, words: &str) {
    for span in take_all(reads) {
        fail(&span, class, words);
        end(&span);
    }
}

/// Says why what a span is about has failed: in a class of errors, and in words.
pub(crate) fn fail(span: &Span, class: &'static str, words: &str) {
    span.record("error.type", class);
    span.record("otel.status_code", "ERROR");
    span.record("otel.status_description", words);
}

/// The trace of a span, where it is recorded.
pub(crate) fn sampled_trace(span: &Span) -> Option<TraceId> {
    let context = context(span);
    context.is_sampled().then(|| context.trace_id())
}

fn take_all(reads: &mut [Read]) -> impl Iterator<Item = Span> {
    reads.iter_mut().filter_map(|read| read.message.span.take())
}

/// A span's end is when it was left last.
fn end(span: &Span) {
    span.in_scope(|| {});
}

/// The span of a batch, where any of its records is sampled.
fn shared(group: &'static str, reads: &[Read]) -> Option<Span> {
    let creations = reads.iter().filter_map(|read| read.message.creation().sampled());
    let mut creations = creations.take(MAX_LINKS).peekable();
    creations.peek()?;
    let topic = reads.first().map(|read| read.message.topic.as_str());
    let topic = topic.filter(|topic| reads.iter().all(|read| read.message.topic == **topic));
    let span = info_span!(
        parent: None,
        "process batch",
        otel.kind = "consumer",
        otel.status_code = field::Empty,
        otel.status_description = field::Empty,
        error.type = field::Empty,
        messaging.system = "kafka",
        messaging.operation.name = "process",
        messaging.operation.type = "process",
        messaging.destination.name = topic,
        messaging.batch.message_count = reads.len() as i64,
        messaging.consumer.group.name = group,
    );
    creations.for_each(|creation| link(&span, &creation));
    Some(span)
}

/// A span of what has not come to its end; dropped like this, it was given up.
pub(crate) struct Unfinished(pub Option<Span>);

impl Unfinished {
    pub fn succeed(mut self) {
        self.0.take().inspect(end);
    }

    pub fn fail(mut self, class: &'static str, words: &str) {
        if let Some(span) = self.0.take() {
            fail(&span, class, words);
            end(&span);
        }
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(span) = self.0.take() {
            let error = Error::Timeout;
            fail(&span, error.class(), &error.words());
            end(&span);
        }
    }
}
