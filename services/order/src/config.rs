//! Configuration of the order service: flags, each also an environment variable.

use std::{net::SocketAddr, time::Duration};

use consumer::KafkaArgs;
use service::Addresses;

/// The order service's own flags.
#[derive(Clone, Debug, clap::Args)]
pub struct Config {
    /// Where gRPC listens.
    #[arg(long, env = "ORDERLY_LISTEN", default_value = "127.0.0.1:50051")]
    pub listen: SocketAddr,
    /// Where /livez, /readyz, /metrics and /version listen.
    #[arg(long, env = "ORDERLY_ADMIN", default_value = "127.0.0.1:9101")]
    pub admin: SocketAddr,
    /// Kafka.
    #[command(flatten)]
    pub kafka: KafkaArgs,
    /// A payment request that billing takes later than this is refused.
    #[arg(long, env = "ORDERLY_PAYMENT_DEADLINE", default_value = "15m", value_parser = humantime::parse_duration)]
    pub payment_deadline: Duration,
}

impl Addresses for Config {
    fn listen(&self) -> SocketAddr {
        self.listen
    }

    fn admin(&self) -> SocketAddr {
        self.admin
    }

    fn check(&self) -> Result<(), String> {
        if self.payment_deadline < Duration::from_secs(1)
            || self.payment_deadline > Duration::from_secs(30 * 86_400)
        {
            return Err("--payment-deadline must be between 1s and 30days".into());
        }
        Ok(())
    }
}
