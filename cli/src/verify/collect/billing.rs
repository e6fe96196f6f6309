//! The billing database.

use futures_util::TryStreamExt as _;
use sqlx::{PgConnection, Row as _};

use super::known;
use crate::verify::facts::{Money, Payment, PaymentStatus, Posting};

pub(super) async fn payments(connection: &mut PgConnection) -> anyhow::Result<Vec<Payment>> {
    let mut rows = sqlx::query(
        "select payment_id, order_id, customer_id, currency, amount_minor, status, failure is not null as failed,
            attempts = 0 as untried, version, provider_reference, refunded_minor,
            floor(extract(epoch from updated_at) * 1000)::bigint as updated_ms
         from payments",
    )
    .fetch(connection);
    let mut payments = Vec::new();
    while let Some(row) = rows.try_next().await? {
        let status: &str = row.try_get("status")?;
        payments.push(Payment {
            id: row.try_get("payment_id")?,
            order_id: row.try_get("order_id")?,
            customer_id: row.try_get("customer_id")?,
            amount: Money { currency: row.try_get("currency")?, minor: row.try_get("amount_minor")? },
            status: known(PaymentStatus::parse(status), status, "payment status")?,
            failed: row.try_get("failed")?,
            untried: row.try_get("untried")?,
            version: row.try_get("version")?,
            reference: row.try_get("provider_reference")?,
            refunded_minor: row.try_get("refunded_minor")?,
            updated_ms: row.try_get("updated_ms")?,
        });
    }
    Ok(payments)
}

pub(super) async fn postings(connection: &mut PgConnection) -> anyhow::Result<Vec<Posting>> {
    let mut rows = sqlx::query(
        "select entry_id, payment_id, kind = 'REFUND' as refund, account, currency, minor from ledger_postings",
    )
    .fetch(connection);
    let mut postings = Vec::new();
    while let Some(row) = rows.try_next().await? {
        postings.push(Posting {
            entry_id: row.try_get("entry_id")?,
            payment_id: row.try_get("payment_id")?,
            refund: row.try_get("refund")?,
            account: row.try_get("account")?,
            amount: Money { currency: row.try_get("currency")?, minor: row.try_get("minor")? },
        });
    }
    Ok(postings)
}
