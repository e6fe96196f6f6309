//! Configuration of the notification service: flags, each also an environment variable.

use std::net::SocketAddr;

use consumer::KafkaArgs;
use lettre::message::Mailbox;
use service::Addresses;

use crate::mail::Server;

/// Tells customers what happened to their orders.
#[derive(Clone, Debug, clap::Args)]
pub struct Config {
    /// Where notification requests come from.
    #[command(flatten)]
    pub kafka: KafkaArgs,
    /// Where gRPC listens.
    #[arg(long, env = "ORDERLY_LISTEN", default_value = "127.0.0.1:50054")]
    pub listen: SocketAddr,
    /// Where /livez, /readyz, /metrics and /version listen.
    #[arg(long, env = "ORDERLY_ADMIN", default_value = "127.0.0.1:9104")]
    pub admin: SocketAddr,
    /// Mail server, host:port on this machine: plain SMTP must not cross a network.
    #[arg(long, env = "ORDERLY_SMTP", default_value = "127.0.0.1:2525")]
    pub smtp: Server,
    /// Sender of every e-mail, as an address or as `Name <address>`.
    #[arg(long, env = "ORDERLY_MAIL_FROM", default_value = "orders@orderly.example")]
    pub mail_from: Mailbox,
}

impl Addresses for Config {
    fn listen(&self) -> SocketAddr {
        self.listen
    }

    fn admin(&self) -> SocketAddr {
        self.admin
    }
}
