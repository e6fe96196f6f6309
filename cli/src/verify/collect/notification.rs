//! The notification database.

use futures_util::TryStreamExt as _;
use sqlx::{PgConnection, Row as _};

use super::known;
use crate::verify::facts::{Notification, NotificationKind, NotificationStatus};

pub(super) async fn notifications(connection: &mut PgConnection) -> anyhow::Result<Vec<Notification>> {
    let mut rows = sqlx::query(
        "select notification_id, order_id, customer_id, kind, channel = 'EMAIL' as email, status
         from notifications",
    )
    .fetch(connection);
    let mut notifications = Vec::new();
    while let Some(row) = rows.try_next().await? {
        let (kind, status): (&str, &str) = (row.try_get("kind")?, row.try_get("status")?);
        notifications.push(Notification {
            id: row.try_get("notification_id")?,
            order_id: row.try_get("order_id")?,
            customer_id: row.try_get("customer_id")?,
            kind: known(NotificationKind::parse(kind), kind, "notification kind")?,
            email: row.try_get("email")?,
            status: known(NotificationStatus::parse(status), status, "notification status")?,
        });
    }
    Ok(notifications)
}
