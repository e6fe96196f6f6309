//! The notification database.

use futures_util::TryStreamExt as _;
use sqlx::{PgConnection, Row as _};

use super::known;
use crate::verify::facts::{Notification, NotificationKind};

pub(super) async fn notifications(connection: &mut PgConnection) -> anyhow::Result<Vec<Notification>> {
    let mut rows = sqlx::query(
        "select notification_id, order_id, customer_id, kind, channel = 'EMAIL' as email,
            status = 'DELIVERED' as delivered
         from notifications",
    )
    .fetch(connection);
    let mut notifications = Vec::new();
    while let Some(row) = rows.try_next().await? {
        let kind: &str = row.try_get("kind")?;
        notifications.push(Notification {
            id: row.try_get("notification_id")?,
            order_id: row.try_get("order_id")?,
            customer_id: row.try_get("customer_id")?,
            kind: known(NotificationKind::parse(kind), kind, "notification kind")?,
            email: row.try_get("email")?,
            delivered: row.try_get("delivered")?,
        });
    }
    Ok(notifications)
}
