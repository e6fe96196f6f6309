//! Configuration of billing: flags, each also an environment variable.

use std::{net::SocketAddr, time::Duration};

use consumer::KafkaArgs;
use service::Addresses;

use crate::provider::ProviderUrl;

/// Longer than this a call could outlive its claim.
const MAX_PROVIDER_TIMEOUT: Duration = Duration::from_secs(20);

/// Takes the money of orders and gives it back.
#[derive(Clone, Debug, clap::Args)]
pub struct Config {
    /// Where payment requests come from.
    #[command(flatten)]
    pub kafka: KafkaArgs,
    /// Where gRPC listens.
    #[arg(long, env = "ORDERLY_LISTEN", default_value = "127.0.0.1:50053")]
    pub listen: SocketAddr,
    /// Where /livez, /readyz, /metrics and /version listen.
    #[arg(long, env = "ORDERLY_ADMIN", default_value = "127.0.0.1:9103")]
    pub admin: SocketAddr,
    /// Base URL of the payment provider.
    #[arg(long, env = "ORDERLY_PROVIDER_URL", default_value = "http://127.0.0.1:9201")]
    pub provider_url: ProviderUrl,
    /// How long one call to the provider may take, at most 20s; after it the outcome is unknown and asked for again.
    #[arg(long, env = "ORDERLY_PROVIDER_TIMEOUT", default_value = "5s", value_parser = provider_timeout)]
    pub provider_timeout: Duration,
    /// How many calls to the provider are in flight at most.
    #[arg(long, env = "ORDERLY_PROVIDER_CONCURRENCY", default_value_t = 128, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub provider_concurrency: u16,
}

impl Addresses for Config {
    fn listen(&self) -> SocketAddr {
        self.listen
    }

    fn admin(&self) -> SocketAddr {
        self.admin
    }
}

fn provider_timeout(text: &str) -> Result<Duration, String> {
    let timeout = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if timeout.is_zero() || timeout > MAX_PROVIDER_TIMEOUT {
        return Err("must be more than 0s and at most 20s".to_owned());
    }
    Ok(timeout)
}
