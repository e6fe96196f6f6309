//! Configuration of inventory: flags, each also an environment variable.

use std::{net::SocketAddr, time::Duration};

use consumer::KafkaArgs;
use service::Addresses;

/// Keeps the catalogue and its stock.
#[derive(Clone, Debug, clap::Args)]
pub struct Config {
    /// Where stock requests come from.
    #[command(flatten)]
    pub kafka: KafkaArgs,
    /// Where gRPC listens.
    #[arg(long, env = "ORDERLY_LISTEN", default_value = "127.0.0.1:50052")]
    pub listen: SocketAddr,
    /// Where /livez, /readyz, /metrics and /version listen.
    #[arg(long, env = "ORDERLY_ADMIN", default_value = "127.0.0.1:9102")]
    pub admin: SocketAddr,
    /// How often each product is announced again, at least 1s: shorter than the retention of product-events.
    #[arg(long, env = "ORDERLY_ANNOUNCE_EVERY", default_value = "24h", value_parser = humantime::parse_duration)]
    pub announce_every: Duration,
}

impl Addresses for Config {
    fn listen(&self) -> SocketAddr {
        self.listen
    }

    fn admin(&self) -> SocketAddr {
        self.admin
    }

    fn check(&self) -> Result<(), String> {
        if self.announce_every < Duration::from_secs(1)
            || self.announce_every > Duration::from_secs(30 * 86_400)
        {
            return Err("--announce-every must be between 1s and 30days".into());
        }
        Ok(())
    }
}
