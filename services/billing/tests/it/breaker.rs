//! What the dispatcher does while the provider is down.

use std::{collections::HashSet, sync::Arc, time::Duration};

use billing::{Billing, app::Payments, metrics::Metrics, provider::Provider};
use sqlx::PgPool;
use testkit::{Database, until};
use tokio::net::TcpSocket;
use tokio_util::sync::CancellationToken;

use crate::provider::Script;

const CHARGED: (u16, &str) = (201, r#"{"reference":"ch_1","status":"succeeded"}"#);
const PAYMENTS: i64 = 40;
const CONCURRENCY: usize = 2;
/// Longer than the breaker ever stays open.
const BOUND: Duration = Duration::from_secs(60);

/// What the payments say of the calls so far.
#[derive(sqlx::FromRow)]
struct Calls {
    calls: i64,
    /// Payments that were called for.
    tried: i64,
    /// Payments that may be called for, and are not.
    waiting: i64,
}

async fn calls(pool: &PgPool) -> sqlx::Result<Calls> {
    let sql = "SELECT sum(attempts) AS calls, count(*) FILTER (WHERE attempts > 0) AS tried,
            count(*) FILTER (WHERE next_attempt_at <= now() AND claimed_until IS NULL) AS waiting
        FROM payments";
    sqlx::query_as(sql).fetch_one(pool).await
}

#[tokio::test]
async fn a_provider_that_is_down_is_left_alone_until_it_is_back() -> anyhow::Result<()> {
    let database = Database::create::<Billing>().await?;
    let pool = database.app().await?;
    sqlx::query(
        "INSERT INTO payments (payment_id, order_id, customer_id, currency, amount_minor, payment_token, status, version)
         SELECT gen_random_uuid(), gen_random_uuid(), 'cust-1', 'EUR', 4999, 'tok_ok', 'PENDING', 1
         FROM generate_series(1, $1)",
    )
    .bind(PAYMENTS)
    .execute(&pool)
    .await?;
    // Bound and not listening: its port is ours, and refuses connections.
    let socket = TcpSocket::new_v4()?;
    socket.bind("127.0.0.1:0".parse()?)?;
    let url = format!("http://{}", socket.local_addr()?).parse().map_err(anyhow::Error::msg)?;
    let metrics = Metrics::register(&telemetry::Metrics::new());
    let payments =
        Arc::new(Payments::new(pool.clone(), Provider::new(&url, Duration::from_secs(5))?, metrics));
    let stop = CancellationToken::new();
    let wake = payments.wake();
    let metrics = consumer::dispatch::Metrics::register(&telemetry::Metrics::new());
    let dispatcher =
        tokio::spawn(consumer::dispatch::run(payments, CONCURRENCY, wake, &metrics, stop.clone()));

    let stopped = until("all could be called for, and none is", BOUND, || async {
        let calls = calls(&pool).await?;
        Ok((calls.calls > 0 && calls.waiting == PAYMENTS).then_some(calls))
    })
    .await?;
    assert!(stopped.calls < PAYMENTS / 2, "{} calls", stopped.calls);
    let probed = until("a probe", BOUND, || async {
        let calls = calls(&pool).await?;
        Ok((calls.calls > stopped.calls).then_some(calls))
    })
    .await?;
    assert_eq!(probed.tried, probed.calls, "each probe is another payment");

    let provider = Script::serve(socket.listen(64)?, &[CHARGED; PAYMENTS as usize]);
    until("all are settled", BOUND, || async {
        let sql = "SELECT count(*) FROM payments WHERE status = 'SUCCEEDED'";
        let settled: i64 = sqlx::query_scalar(sql).fetch_one(&pool).await?;
        Ok((settled == PAYMENTS).then_some(()))
    })
    .await?;
    stop.cancel();
    dispatcher.await?;
    let answered = provider.calls();
    let keys: HashSet<&str> = answered.iter().map(|(_, key)| key.as_str()).collect();
    assert_eq!((answered.len(), keys.len()), (PAYMENTS as usize, PAYMENTS as usize));
    let Calls { calls, .. } = calls(&pool).await?;
    assert!(calls < PAYMENTS + PAYMENTS / 2, "{calls} calls");
    Ok(())
}
