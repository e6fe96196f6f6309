//! The use cases; each write owns one transaction. This service makes no events.

use outbox::UnitOfWork;
use sqlx::PgPool;
use uuid::Uuid;

use crate::{
    domain::{Channel, CustomerId},
    error::Error,
    store::{self, Filter, Notification},
};

/// The newest notifications that fit, at most `limit`, only those before the notification `before`.
pub async fn list(
    pool: &PgPool,
    filter: &Filter,
    before: Option<Uuid>,
    limit: i64,
) -> Result<Vec<Notification>, Error> {
    Ok(store::list(&mut *pool.acquire().await?, filter, before, limit).await?)
}

/// How the customer is told.
pub async fn settings(pool: &PgPool, customer_id: &CustomerId) -> Result<Channel, Error> {
    Ok(store::channel(&mut *pool.acquire().await?, customer_id).await?)
}

/// Replaces how the customer is told, for notifications requested from now on.
pub async fn update_settings(
    pool: &PgPool,
    customer_id: &CustomerId,
    channel: &Channel,
) -> Result<(), Error> {
    let mut work = UnitOfWork::begin(pool).await?;
    store::set_channel(&mut work, customer_id, channel).await?;
    Ok(work.commit(Vec::new()).await?)
}
