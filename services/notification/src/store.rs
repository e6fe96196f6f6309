//! The database's statements, as free functions over a connection.

use std::time::Duration;

use sqlx::{FromRow, PgConnection, Postgres, QueryBuilder};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::domain::{Channel, CustomerId, Request, Text};

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
    /// PENDING or DELIVERED.
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
    /// UUIDv7, the Message-ID.
    pub notification_id: Uuid,
    /// The order it is about.
    pub order_id: Uuid,
    /// A [`crate::domain::Kind`]'s name.
    pub kind: String,
    /// A [`Channel`]'s name.
    pub channel: String,
    /// For the e-mail channel only.
    pub email_address: Option<String>,
    /// One line.
    pub subject: String,
    /// Plain text.
    pub body: String,
    /// This attempt's number, 1 for the first.
    pub attempts: i32,
}

/// What a listing is narrowed to.
#[derive(Clone, Debug, Default, Hash)]
pub struct Filter {
    /// Only this order's.
    pub order_id: Option<Uuid>,
    /// Only this customer's.
    pub customer_id: Option<CustomerId>,
}

/// Inserts a pending notification, unless the order has one of that kind. True where it is new.
pub async fn request(
    connection: &mut PgConnection,
    request: &Request,
    channel: &Channel,
    text: &Text,
) -> Result<bool, sqlx::Error> {
    let inserted = sqlx::query(include_str!("sql/request.sql"))
        .bind(Uuid::now_v7())
        .bind(request.order_id)
        .bind(request.customer_id.as_ref())
        .bind(request.kind.name())
        .bind(channel.name())
        .bind(channel.email_address())
        .bind(&text.subject)
        .bind(&text.body)
        .execute(connection)
        .await?;
    Ok(inserted.rows_affected() == 1)
}

/// Claims at most `limit` due notifications for `lease`, at most one of each order, and counts the attempt.
pub async fn claim(
    connection: &mut PgConnection,
    limit: i64,
    lease: Duration,
) -> Result<Vec<Claimed>, sqlx::Error> {
    let claim = sqlx::query_as(include_str!("sql/claim.sql"));
    claim.bind(limit).bind(lease.as_secs_f64()).fetch_all(connection).await
}

/// Notes that the channel has taken it, whoever holds the claim by now.
pub async fn delivered(connection: &mut PgConnection, notification_id: Uuid) -> Result<(), sqlx::Error> {
    sqlx::query(
        "update notifications set status = 'DELIVERED', delivered_at = now(), claimed_until = null
         where notification_id = $1 and status = 'PENDING'",
    )
    .bind(notification_id)
    .execute(connection)
    .await?;
    Ok(())
}

/// Gives the claim of that attempt back, due again after half to all of `wait`; a later attempt's claim is left alone.
pub async fn retry(
    connection: &mut PgConnection,
    notification_id: Uuid,
    attempt: i32,
    wait: Duration,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "update notifications
         set claimed_until = null, next_attempt_at = now() + make_interval(secs => $3 * (0.5 + random() / 2))
         where notification_id = $1 and attempts = $2 and status = 'PENDING'",
    )
    .bind(notification_id)
    .bind(attempt)
    .bind(wait.as_secs_f64())
    .execute(connection)
    .await?;
    Ok(())
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
    let row: Option<(String, Option<String>)> =
        sqlx::query_as("select channel, email_address from settings where customer_id = $1")
            .bind(customer_id.as_ref())
            .fetch_optional(connection)
            .await?;
    row.map_or(Ok(Channel::default()), |(name, address)| {
        Channel::from_columns(&name, address.as_deref()).map_err(|error| sqlx::Error::Decode(error.into()))
    })
}

/// Replaces how the customer wants to be told.
pub async fn set_channel(
    connection: &mut PgConnection,
    customer_id: &CustomerId,
    channel: &Channel,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "insert into settings (customer_id, channel, email_address) values ($1, $2, $3)
         on conflict on constraint settings_pkey
         do update set channel = excluded.channel, email_address = excluded.email_address, updated_at = now()",
    )
    .bind(customer_id.as_ref())
    .bind(channel.name())
    .bind(channel.email_address())
    .execute(connection)
    .await?;
    Ok(())
}
