//! The daily repetition of the catalogue, so that a new reader of product-events needs no older record.

use std::{error::Error as StdError, time::Duration};

use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::app::Catalogue;

/// How often is looked for products to announce again.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// Announces every product again that was last announced so long ago, until shutdown. Any number of processes may do so.
pub async fn run(catalogue: &Catalogue, every: Duration, shutdown: CancellationToken) {
    loop {
        let (mut announced, mut more) = (0, true);
        while more && !shutdown.is_cancelled() {
            match catalogue.announce(every).await {
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
