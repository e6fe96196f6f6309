//! The wake-up of a sleeping outbox: `NOTIFY outbox`, heard on a connection of its own.
//!
//! Only a hint. What is not heard is found by the next poll, so a listener that is lost costs time and nothing else.

use std::{sync::Arc, time::Duration};

use sqlx::{
    PgPool,
    postgres::{PgConnectOptions, PgListener, PgPoolOptions},
};
use tokio::{sync::Notify, time::sleep};
use tokio_util::task::AbortOnDropHandle;

/// What `outbox::UnitOfWork` notifies.
const CHANNEL: &str = "outbox";
/// How long a listener that was lost waits.
const AGAIN: Duration = Duration::from_secs(5);

/// Listens until it is dropped.
#[derive(Debug)]
pub struct Wake {
    heard: Arc<Notify>,
    _listening: AbortOnDropHandle<()>,
}

impl Wake {
    /// Begins to listen.
    pub fn listen(options: PgConnectOptions) -> Self {
        let heard = Arc::new(Notify::new());
        let pool = PgPoolOptions::new().max_connections(1).connect_lazy_with(options);
        let listening = tokio::spawn(listen(pool, heard.clone()));
        Self { heard, _listening: AbortOnDropHandle::new(listening) }
    }

    /// Until something was appended after a quiet spell.
    pub async fn up(&self) {
        self.heard.notified().await;
    }
}

async fn listen(pool: PgPool, heard: Arc<Notify>) {
    loop {
        if let Err(error) = hear(&pool, &heard).await {
            tracing::debug!(%error, "not listening for wake-ups; polling goes on");
        }
        sleep(AGAIN).await;
    }
}

async fn hear(pool: &PgPool, heard: &Notify) -> Result<(), sqlx::Error> {
    let mut listener = PgListener::connect_with(pool).await?;
    listener.listen(CHANNEL).await?;
    loop {
        listener.recv().await?;
        heard.notify_one();
    }
}
