//! SQL of payments and their ledger, as functions over a connection, so that they compose in one transaction.

use std::{collections::HashMap, error::Error as StdError};

use sqlx::{FromRow, PgConnection, PgExecutor, PgPool, Row, postgres::PgRow};
use telemetry::SpanContext;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    domain::{Money, Payment, Posting, Status},
    provider::PaymentToken,
};

/// Reads one payment.
pub async fn find(pool: &PgPool, payment_id: Uuid) -> Result<Option<Payment>, sqlx::Error> {
    sqlx::query_as(
        "SELECT payment_id, order_id, customer_id, currency, amount_minor, status, failure, version, attempts,
             provider_reference, refund_requested, refunded_minor, created_at, updated_at
         FROM payments WHERE payment_id = $1",
    )
    .bind(payment_id)
    .fetch_optional(pool)
    .await
}

/// At most `limit` payments, the newest first, below `before`; only that of `order_id` where given.
pub async fn list(
    pool: &PgPool,
    order_id: Option<Uuid>,
    before: Option<Uuid>,
    limit: i64,
) -> Result<Vec<Payment>, sqlx::Error> {
    sqlx::query_as(include_str!("sql/list.sql")).bind(order_id).bind(before).bind(limit).fetch_all(pool).await
}

/// Reads payments and holds their rows until the transaction ends; every writer of a payment starts here.
pub async fn lock(connection: &mut PgConnection, payment_ids: &[Uuid]) -> Result<Vec<Payment>, sqlx::Error> {
    sqlx::query_as(include_str!("sql/lock.sql")).bind(payment_ids).fetch_all(connection).await
}

/// Inserts a payment as its first version. False where its id or its order already has one.
pub async fn insert(
    connection: &mut PgConnection,
    payment: &Payment,
    token: Option<&PaymentToken>,
    not_after: Option<OffsetDateTime>,
) -> Result<bool, sqlx::Error> {
    let [traceparent, tracestate] = context(&telemetry::propagation::current());
    let done = sqlx::query(
        "INSERT INTO payments (payment_id, order_id, customer_id, currency, amount_minor, payment_token, status,
             failure, version, refund_requested, not_after, traceparent, tracestate)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
         ON CONFLICT DO NOTHING",
    )
    .bind(payment.payment_id)
    .bind(payment.order_id)
    .bind(&payment.customer_id)
    .bind(&payment.amount.currency)
    .bind(payment.amount.minor)
    .bind(token.map(PaymentToken::expose))
    .bind(payment.status.as_str())
    .bind(payment.failure.map(|failure| failure.as_str()))
    .bind(payment.version)
    .bind(payment.refund_requested)
    .bind(not_after)
    .bind(traceparent)
    .bind(tracestate)
    .execute(connection)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Writes the next versions of locked payments, each over the version that is stored; `requested_in` is the span of the
/// record that has requested the change, where one has.
pub async fn save(
    connection: &mut PgConnection,
    changed: &[(i32, Payment)],
    requested_in: Option<&SpanContext>,
) -> Result<(), sqlx::Error> {
    fn column<'p, T>(changed: &'p [(i32, Payment)], value: impl Fn(&'p Payment) -> T) -> Vec<T> {
        changed.iter().map(|(_, payment)| value(payment)).collect()
    }
    let before: Vec<i32> = changed.iter().map(|(before, _)| *before).collect();
    let [traceparent, tracestate] = requested_in.map(context).unwrap_or_default();
    let done = sqlx::query(include_str!("sql/save.sql"))
        .bind(column(changed, |payment| payment.payment_id))
        .bind(before)
        .bind(column(changed, |payment| payment.status.as_str()))
        .bind(column(changed, |payment| payment.failure.map(|failure| failure.as_str())))
        .bind(column(changed, |payment| payment.version))
        .bind(column(changed, |payment| payment.provider_reference.as_deref()))
        .bind(column(changed, |payment| payment.refund_requested))
        .bind(column(changed, |payment| payment.refunded_minor))
        .bind(traceparent)
        .bind(tracestate)
        .execute(connection)
        .await?;
    if done.rows_affected() == changed.len() as u64 { Ok(()) } else { Err(sqlx::Error::RowNotFound) }
}

/// Books entries, each the postings of one change of a payment; nothing where there are none.
pub async fn post(
    connection: &mut PgConnection,
    entries: &[(Payment, Vec<Posting>)],
) -> Result<(), sqlx::Error> {
    let entry_ids: Vec<Uuid> = entries.iter().map(|_| Uuid::now_v7()).collect();
    let lines: Vec<(&Uuid, &Payment, &Posting)> = entry_ids
        .iter()
        .zip(entries)
        .flat_map(|(id, (payment, postings))| postings.iter().map(move |posting| (id, payment, posting)))
        .collect();
    if lines.is_empty() {
        return Ok(());
    }
    sqlx::query(include_str!("sql/post.sql"))
        .bind(lines.iter().map(|(id, ..)| **id).collect::<Vec<_>>())
        .bind(lines.iter().map(|(_, payment, _)| payment.payment_id).collect::<Vec<_>>())
        .bind(lines.iter().map(|(.., posting)| posting.kind).collect::<Vec<_>>())
        .bind(lines.iter().map(|(.., posting)| posting.account).collect::<Vec<_>>())
        .bind(lines.iter().map(|(_, payment, _)| payment.amount.currency.as_str()).collect::<Vec<_>>())
        .bind(lines.iter().map(|(.., posting)| posting.minor).collect::<Vec<_>>())
        .execute(connection)
        .await?;
    Ok(())
}

/// A call that is owed to the provider, claimed by this process until its lease ends.
#[derive(Debug)]
pub struct Intent {
    /// The idempotency key.
    pub payment_id: Uuid,
    /// The order it pays.
    pub order_id: Uuid,
    /// [`Status::Pending`] owes a charge, [`Status::Refunding`] a refund.
    pub status: Status,
    /// What to take.
    pub amount: Money,
    /// What to take it from.
    pub token: PaymentToken,
    /// With this one; it also tells this claim from a later one.
    pub attempts: i32,
    /// The request's deadline has passed.
    pub expired: bool,
    /// Trace context of the request.
    pub traceparent: Option<String>,
    /// Trace context of the request.
    pub tracestate: Option<String>,
}

/// Claims at most `limit` calls that are due, for `lease_seconds`.
pub async fn claim(pool: &PgPool, limit: i64, lease_seconds: f64) -> Result<Vec<Intent>, sqlx::Error> {
    sqlx::query_as(include_str!("sql/claim.sql")).bind(limit).bind(lease_seconds).fetch_all(pool).await
}

/// Payments in a status that owe the provider a call.
#[derive(Debug, FromRow)]
pub struct Owed {
    /// [`Status::Pending`] or [`Status::Refunding`].
    pub status: String,
    /// How many.
    pub count: i64,
    /// For how long the oldest of them has owed it.
    pub oldest_secs: f64,
}

/// What is owed to the provider; without a status in which nothing is.
pub async fn owed(executor: impl PgExecutor<'_>) -> Result<Vec<Owed>, sqlx::Error> {
    sqlx::query_as(include_str!("sql/owed.sql")).fetch_all(executor).await
}

/// Gives a claim back, to be tried again after `backoff_ms` and up to half of it sooner. A later claim is left alone.
pub async fn defer(
    executor: impl PgExecutor<'_>,
    intent: &Intent,
    backoff_ms: i32,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE payments
         SET claimed_until = NULL, next_attempt_at = now() + $4 * (1 - random() / 2) * interval '1 millisecond'
         WHERE payment_id = $1 AND status = $2 AND attempts = $3",
    )
    .bind(intent.payment_id)
    .bind(intent.status.as_str())
    .bind(intent.attempts)
    .bind(f64::from(backoff_ms))
    .execute(executor)
    .await?;
    Ok(())
}

impl FromRow<'_, PgRow> for Payment {
    fn from_row(row: &PgRow) -> Result<Self, sqlx::Error> {
        let failure: Option<&str> = row.try_get("failure")?;
        Ok(Self {
            payment_id: row.try_get("payment_id")?,
            order_id: row.try_get("order_id")?,
            customer_id: row.try_get("customer_id")?,
            amount: amount(row)?,
            status: row.try_get::<&str, _>("status")?.parse().map_err(decode)?,
            failure: failure.map(str::parse).transpose().map_err(decode)?,
            version: row.try_get("version")?,
            attempts: row.try_get("attempts")?,
            provider_reference: row.try_get("provider_reference")?,
            refund_requested: row.try_get("refund_requested")?,
            refunded_minor: row.try_get("refunded_minor")?,
            created_at: row.try_get("created_at")?,
            updated_at: row.try_get("updated_at")?,
        })
    }
}

impl FromRow<'_, PgRow> for Intent {
    fn from_row(row: &PgRow) -> Result<Self, sqlx::Error> {
        let token: Option<String> = row.try_get("payment_token")?;
        Ok(Self {
            payment_id: row.try_get("payment_id")?,
            order_id: row.try_get("order_id")?,
            status: row.try_get::<&str, _>("status")?.parse().map_err(decode)?,
            amount: amount(row)?,
            token: PaymentToken::new(token.unwrap_or_default()),
            attempts: row.try_get("attempts")?,
            expired: row.try_get("expired")?,
            traceparent: row.try_get("traceparent")?,
            tracestate: row.try_get("tracestate")?,
        })
    }
}

/// The columns `traceparent` and `tracestate`.
fn context(span: &SpanContext) -> [Option<String>; 2] {
    let headers: HashMap<&str, String> = telemetry::propagation::write(span).collect();
    telemetry::propagation::HEADERS.map(|name| headers.get(name).cloned())
}

fn amount(row: &PgRow) -> Result<Money, sqlx::Error> {
    Ok(Money { currency: row.try_get("currency")?, minor: row.try_get("amount_minor")? })
}

fn decode(error: impl StdError + Send + Sync + 'static) -> sqlx::Error {
    sqlx::Error::Decode(Box::new(error))
}
