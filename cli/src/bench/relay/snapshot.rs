//! Another session's snapshot, held open: what makes queues on PostgreSQL bloat.

use sqlx::{Connection as _, PgConnection};
use tokio::time::Instant;

use super::servers::Servers;

/// A session that is idle in a REPEATABLE READ transaction. Dropping it ends the session.
#[derive(Debug)]
pub(super) struct Held {
    session: PgConnection,
    since: Instant,
}

impl Held {
    pub(super) async fn open(servers: &Servers, database: &str) -> anyhow::Result<Self> {
        let mut session = servers.superuser(database).await?;
        // The snapshot is taken by the first statement.
        let open = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY; SELECT count(*) FROM pg_class";
        sqlx::raw_sql(open).execute(&mut session).await?;
        Ok(Self { session, since: Instant::now() })
    }

    /// How long it has been held.
    pub(super) fn seconds(&self) -> f64 {
        self.since.elapsed().as_secs_f64()
    }

    /// Ends it, and says for how many seconds it was held.
    pub(super) async fn release(self) -> anyhow::Result<f64> {
        let held = self.seconds();
        self.session.close().await?;
        Ok(held)
    }
}
