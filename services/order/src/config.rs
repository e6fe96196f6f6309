//! Configuration of the order service: flags, each also an environment variable.

use std::{net::SocketAddr, time::Duration};

use consumer::KafkaArgs;
use service::Addresses;

use crate::app::Deadlines;

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
    /// How long each answer is waited for.
    #[command(flatten)]
    pub deadlines: DeadlineArgs,
    /// Most WatchOrder streams of this process; further ones are refused.
    #[arg(long, env = "ORDERLY_MAX_WATCHERS", default_value = "10000", value_parser = watchers)]
    pub max_watchers: usize,
}

/// How long the order service waits for others before it undoes an order, asks again, or calls an operator.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct DeadlineArgs {
    /// How long inventory may take to reserve; after it the order is undone and ends REJECTED.
    #[arg(long, env = "ORDERLY_STOCK_DEADLINE", default_value = "15m", value_parser = deadline)]
    pub stock_deadline: Duration,
    /// How long billing may take to charge; after it the order is undone and ends REJECTED.
    #[arg(long, env = "ORDERLY_PAYMENT_DEADLINE", default_value = "15m", value_parser = deadline)]
    pub payment_deadline: Duration,
    /// How long inventory may take to schedule the shipment of a paid order; then it is asked again, and at last an operator.
    #[arg(long, env = "ORDERLY_SHIPMENT_DEADLINE", default_value = "15m", value_parser = deadline)]
    pub shipment_deadline: Duration,
    /// How long a release or a refund may take; then it is asked for again, and at last an operator.
    #[arg(long, env = "ORDERLY_COMPENSATION_DEADLINE", default_value = "15m", value_parser = deadline)]
    pub compensation_deadline: Duration,
}

impl Addresses for Config {
    fn listen(&self) -> SocketAddr {
        self.listen
    }

    fn admin(&self) -> SocketAddr {
        self.admin
    }
}

impl From<DeadlineArgs> for Deadlines {
    fn from(args: DeadlineArgs) -> Self {
        Self {
            stock: args.stock_deadline,
            payment: args.payment_deadline,
            shipment: args.shipment_deadline,
            compensation: args.compensation_deadline,
        }
    }
}

fn deadline(text: &str) -> Result<Duration, String> {
    let deadline = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if (Duration::from_secs(1)..=Duration::from_secs(30 * 86_400)).contains(&deadline) {
        Ok(deadline)
    } else {
        Err("must be between 1s and 30days".to_owned())
    }
}

fn watchers(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(max @ 1..=1_000_000) => Ok(max),
        _ => Err("must be between 1 and 1000000".to_owned()),
    }
}
