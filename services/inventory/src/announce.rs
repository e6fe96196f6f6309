//! The daily repetition of the catalogue, so that a new reader of product-events needs no older record.

use std::{error::Error as StdError, time::Duration};

use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, Span, info, info_span, warn};

use crate::app::Catalogue;

/// How often is looked for products to announce again.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// Announces every product again that was last announced so long ago, until shutdown. Any number of processes may do so.
pub async fn run(catalogue: &Catalogue, every: Duration, shutdown: CancellationToken) {
    loop {
        let (mut announced, mut more) = (0, true);
        while more && !shutdown.is_cancelled() {
            match catalogue.announce(every).instrument(span()).await {
                Ok((count, there_may_be_more)) => {
                    announced += count;
                    more = there_may_be_more;
                }
                Err(error) => {
                    warn!(error = &error as &dyn StdError, "catalogue not announced, trying again");
                    more = false;
                }
            }
        }
        if announced > 0 {
            info!(products = announced, "catalogue announced again");
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY.min(every)) => {}
            () = shutdown.cancelled() => return,
        }
    }
}

/// Nobody has asked for it: a trace of its own.
fn span() -> Span {
    let span = info_span!(parent: None, "announce products");
    telemetry::span::set_parent(&span, None);
    span
}
