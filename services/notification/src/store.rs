//! The database's statements, as free functions over a connection.

use std::{collections::HashMap, time::Duration};

use consumer::Message;
use outbox::Headers;
use sqlx::{FromRow, PgConnection, PgExecutor, Postgres, QueryBuilder, Row as _, postgres::PgRow};
use telemetry::{SpanContext, propagation};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::domain::{Channel, Columns, CustomerId, Invalid, Request, Text};

/// A row of `notifications` as it is listed; without contact data.
#[derive(Clone, Debug, FromRow)]
pub struct Notification {
    /// UUIDv7.
    pub notification_id: Uuid,
    /// The order it is about.
    pub order_id: Uuid,
    /// Whom it is for.
    pub customer_id: String,
    /// A [`crate::domain::Kind`]'s name.
    pub kind: String,
    /// A [`Channel`]'s name.
    pub channel: String,
    /// PENDING, DELIVERED or `GIVEN_UP`.
    pub status: String,
    /// One line.
    pub subject: String,
    /// Plain text.
    pub body: String,
    /// Deliveries tried so far.
    pub attempts: i32,
    /// When it was requested here.
    pub created_at: OffsetDateTime,
    /// When the channel took it.
    pub delivered_at: Option<OffsetDateTime>,
}

/// A notification in this dispatcher's hands until its lease runs out.
#[derive(FromRow)]
pub struct Claimed {
    /// UUIDv7: the Message-ID, the webhook-id.
    pub notification_id: Uuid,
    /// The order it is about.
    pub order_id: Uuid,
    /// Whom it is for.
    pub customer_id: String,
    /// A [`crate::domain::Kind`]'s name.
    pub kind: String,
    /// Where it goes.
    #[sqlx(flatten)]
    pub contact: Contact,
    /// One line.
    pub subject: String,
    /// Plain text.
    pub body: String,
    /// This attempt's number, 1 for the first.
    pub attempts: i32,
    /// When it was requested here.
    pub created_at: OffsetDateTime,
    /// When it was tried first.
    pub first_attempt_at: OffsetDateTime,
    /// For how long it has been tried, in seconds.
    pub tried_secs: f64,
    /// Trace context of the request.
    pub traceparent: Option<String>,
    /// Trace context of the request.
    pub tracestate: Option<String>,
}

impl Claimed {
    /// Where the record was processed that requested it.
    pub fn requested_in(&self) -> Option<SpanContext> {
        propagation::read(self.traceparent.as_deref(), self.tracestate.as_deref())
    }
}

/// The columns of a [`Channel`].
#[derive(FromRow)]
pub struct Contact {
    channel: String,
    email_address: Option<String>,
    webhook_url: Option<String>,
    webhook_secret: Option<String>,
}

impl Contact {
    /// The channel of these columns.
    pub fn channel(&self) -> Result<Channel, Invalid> {
        Channel::from_columns(Columns {
            channel: &self.channel,
            email_address: self.email_address.as_deref(),
            webhook_url: self.webhook_url.as_deref(),
            webhook_secret: self.webhook_secret.as_deref(),
        })
    }
}

impl From<&Channel> for Contact {
    fn from(channel: &Channel) -> Self {
        let Columns { channel, email_address, webhook_url, webhook_secret } = channel.columns();
        Self {
            channel: channel.to_owned(),
            email_address: email_address.map(str::to_owned),
            webhook_url: webhook_url.map(str::to_owned),
            webhook_secret: webhook_secret.map(str::to_owned),
        }
    }
}

/// An attempt that was in vain.
#[derive(Clone, Copy, Debug)]
pub struct Tried {
    /// Of which notification.
    pub notification_id: Uuid,
    /// Its number.
    pub attempt: i32,
    /// How long the next one waits at most.
    pub wait: Duration,
}

/// What a listing is narrowed to.
#[derive(Clone, Debug, Default, Hash)]
pub struct Filter {
    /// Only this order's.
    pub order_id: Option<Uuid>,
    /// Only this customer's.
    pub customer_id: Option<CustomerId>,
}

/// A notification to be written down.
#[derive(Clone, Copy)]
pub struct Requested<'r> {
    /// What it is about.
    pub request: &'r Request,
    /// How its customer wants to be told.
    pub channel: &'r Channel,
    /// What it says.
    pub text: &'r Text,
    /// What requested it.
    pub record: &'r Message,
}

/// Inserts a pending notification of the current span, unless the order has one of that kind; one that was given up becomes pending again.
/// True where something is to be delivered.
pub async fn request(
    connection: &mut PgConnection,
    request: &Request,
    channel: &Channel,
    text: &Text,
    record: &Message,
) -> Result<bool, sqlx::Error> {
    let columns = channel.columns();
    let record = channel.can_refuse().then_some(record);
    let [traceparent, tracestate] = context(&propagation::current());
    let inserted = sqlx::query(include_str!("sql/request.sql"))
        .bind(Uuid::now_v7())
        .bind(request.order_id)
        .bind(request.customer_id.as_ref())
        .bind(request.kind.name())
        .bind(columns.channel)
        .bind(columns.email_address)
        .bind(columns.webhook_url)
        .bind(columns.webhook_secret)
        .bind(&text.subject)
        .bind(&text.body)
        .bind(record.map(|record| record.topic.as_str()))
        .bind(record.map(|record| record.partition))
        .bind(record.map(|record| record.offset))
        .bind(record.and_then(|record| record.key.as_deref()))
        .bind(record.map(|record| record.headers.encode()))
        .bind(record.and_then(|record| record.payload.as_deref()))
        .bind(record.and_then(|record| record.timestamp))
        .bind(traceparent)
        .bind(tracestate)
        .execute(connection)
        .await?;
    Ok(inserted.rows_affected() == 1)
}

/// Does to each what [`request`] does in its record's span, in their order; no two may be of the same order and kind. Says how many are to be
/// delivered.
pub async fn request_all(
    connection: &mut PgConnection,
    requested: &[Requested<'_>],
) -> Result<u64, sqlx::Error> {
    fn array<'r, T>(of: &[Requested<'r>], column: impl Fn(Requested<'r>) -> T) -> Vec<T> {
        of.iter().map(|requested| column(*requested)).collect()
    }
    fn record<'r, T>(of: &[Requested<'r>], column: impl Fn(&'r Message) -> Option<T>) -> Vec<Option<T>> {
        array(of, |new| new.channel.can_refuse().then_some(new.record).and_then(&column))
    }
    let of = requested;
    let contexts = array(of, |new| context(&telemetry::span::context(&new.record.span())));
    let (traceparents, tracestates): (Vec<_>, Vec<_>) = contexts.into_iter().map(Into::into).unzip();
    let inserted = sqlx::query(include_str!("sql/request_all.sql"))
        .bind(array(of, |_| Uuid::now_v7()))
        .bind(array(of, |new| new.request.order_id))
        .bind(array(of, |new| new.request.customer_id.as_ref()))
        .bind(array(of, |new| new.request.kind.name()))
        .bind(array(of, |new| new.channel.columns().channel))
        .bind(array(of, |new| new.channel.columns().email_address))
        .bind(array(of, |new| new.channel.columns().webhook_url))
        .bind(array(of, |new| new.channel.columns().webhook_secret))
        .bind(array(of, |new| new.text.subject.as_str()))
        .bind(array(of, |new| new.text.body.as_str()))
        .bind(record(of, |record| Some(record.topic.as_str())))
        .bind(record(of, |record| Some(record.partition)))
        .bind(record(of, |record| Some(record.offset)))
        .bind(record(of, |record| record.key.as_deref()))
        .bind(record(of, |record| Some(record.headers.encode())))
        .bind(record(of, |record| record.payload.as_deref()))
        .bind(record(of, |record| record.timestamp))
        .bind(traceparents)
        .bind(tracestates)
        .execute(connection)
        .await?;
    Ok(inserted.rows_affected())
}

/// Claims at most `limit` due notifications of a channel for `lease`, at most one of each order, and counts the attempt.
pub async fn claim(
    connection: &mut PgConnection,
    channel: &str,
    limit: i64,
    lease: Duration,
) -> Result<Vec<Claimed>, sqlx::Error> {
    let claim = sqlx::query_as(include_str!("sql/claim.sql"));
    claim.bind(channel).bind(limit).bind(lease.as_secs_f64()).fetch_all(connection).await
}

/// Notes that the channel has taken them, whoever holds the claims by now. Says of how many that is new.
pub async fn delivered(connection: &mut PgConnection, notification_ids: &[Uuid]) -> Result<u64, sqlx::Error> {
    let done =
        sqlx::query(include_str!("sql/delivered.sql")).bind(notification_ids).execute(connection).await?;
    Ok(done.rows_affected())
}

/// Gives the claims of these attempts back, due again after half to all of each wait. Says how many still were claims.
pub async fn retry(connection: &mut PgConnection, tried: &[Tried]) -> Result<u64, sqlx::Error> {
    let done = sqlx::query(include_str!("sql/retry.sql"))
        .bind(tried.iter().map(|tried| tried.notification_id).collect::<Vec<_>>())
        .bind(tried.iter().map(|tried| tried.attempt).collect::<Vec<_>>())
        .bind(tried.iter().map(|tried| tried.wait.as_secs_f64()).collect::<Vec<_>>())
        .execute(connection)
        .await?;
    Ok(done.rows_affected())
}

/// Gives the notification of that attempt up, and returns the record that requested it. None where that was not kept, or
/// another attempt has begun: then nothing has changed.
pub async fn give_up(
    connection: &mut PgConnection,
    notification_id: Uuid,
    attempt: i32,
) -> Result<Option<Message>, sqlx::Error> {
    let row = sqlx::query(include_str!("sql/give_up.sql"))
        .bind(notification_id)
        .bind(attempt)
        .fetch_optional(connection)
        .await?;
    row.as_ref().map(record).transpose()
}

/// The columns `traceparent` and `tracestate`.
fn context(span: &SpanContext) -> [Option<String>; 2] {
    let headers: HashMap<&str, String> = propagation::write(span).collect();
    propagation::HEADERS.map(|name| headers.get(name).cloned())
}

fn record(row: &PgRow) -> Result<Message, sqlx::Error> {
    let headers = Headers::decode(row.try_get("record_headers")?);
    Ok(Message {
        topic: row.try_get("record_topic")?,
        partition: row.try_get("record_partition")?,
        offset: row.try_get("record_offset")?,
        key: row.try_get("record_key")?,
        headers: headers.map_err(|malformed| sqlx::Error::Decode(malformed.into()))?,
        payload: row.try_get("record_payload")?,
        timestamp: row.try_get("record_ms")?,
        // In the headers.
        source: String::new(),
        id: Uuid::nil(),
        event_type: String::new(),
        span: None,
    })
}

/// What is not delivered yet on a channel.
#[derive(Debug, FromRow)]
pub struct Pending {
    /// A [`Channel`]'s name.
    pub channel: String,
    /// How many.
    pub count: i64,
    /// For how long the oldest of them has been asked for.
    pub oldest_secs: f64,
}

/// What is not delivered yet; without a channel on which all is.
pub async fn pending(executor: impl PgExecutor<'_>) -> Result<Vec<Pending>, sqlx::Error> {
    sqlx::query_as(include_str!("sql/pending.sql")).fetch_all(executor).await
}

/// The newest first, at most `limit`, only those before the notification `before`.
pub async fn list(
    connection: &mut PgConnection,
    filter: &Filter,
    before: Option<Uuid>,
    limit: i64,
) -> Result<Vec<Notification>, sqlx::Error> {
    // Built from what is asked for: one statement with optional predicates would get a plan that fits none of them.
    let mut query = QueryBuilder::<Postgres>::new(
        "select notification_id, order_id, customer_id, kind, channel, status, subject, body, attempts, created_at,
             delivered_at
         from notifications where true",
    );
    if let Some(order_id) = filter.order_id {
        query.push(" and order_id = ").push_bind(order_id);
    }
    if let Some(customer_id) = &filter.customer_id {
        query.push(" and customer_id = ").push_bind(customer_id.as_ref());
    }
    if let Some(before) = before {
        query.push(" and notification_id < ").push_bind(before);
    }
    query.push(" order by notification_id desc limit ").push_bind(limit);
    query.build_query_as().fetch_all(connection).await
}

/// How the customer wants to be told; the default where there are no settings.
pub async fn channel(
    connection: &mut PgConnection,
    customer_id: &CustomerId,
) -> Result<Channel, sqlx::Error> {
    let row: Option<Contact> = sqlx::query_as(
        "select channel, email_address, webhook_url, webhook_secret from settings where customer_id = $1",
    )
    .bind(customer_id.as_ref())
    .fetch_optional(connection)
    .await?;
    row.map_or(Ok(Channel::default()), |contact| {
        contact.channel().map_err(|error| sqlx::Error::Decode(error.into()))
    })
}

/// How each of these customers wants to be told; without those that have no settings.
pub async fn channels(
    connection: &mut PgConnection,
    customer_ids: &[&str],
) -> Result<HashMap<String, Channel>, sqlx::Error> {
    let rows = sqlx::query(include_str!("sql/channels.sql")).bind(customer_ids).fetch_all(connection).await?;
    let channel = |row: &PgRow| {
        let channel = Contact::from_row(row)?.channel().map_err(|error| sqlx::Error::Decode(error.into()))?;
        Ok((row.try_get("customer_id")?, channel))
    };
    rows.iter().map(channel).collect()
}

/// Replaces how the customer wants to be told.
pub async fn set_channel(
    connection: &mut PgConnection,
    customer_id: &CustomerId,
    channel: &Channel,
) -> Result<(), sqlx::Error> {
    let columns = channel.columns();
    sqlx::query(
        "insert into settings (customer_id, channel, email_address, webhook_url, webhook_secret)
         values ($1, $2, $3, $4, $5)
         on conflict on constraint settings_pkey
         do update set channel = excluded.channel, email_address = excluded.email_address,
             webhook_url = excluded.webhook_url, webhook_secret = excluded.webhook_secret, updated_at = now()",
    )
    .bind(customer_id.as_ref())
    .bind(columns.channel)
    .bind(columns.email_address)
    .bind(columns.webhook_url)
    .bind(columns.webhook_secret)
    .execute(connection)
    .await?;
    Ok(())
}
