//! Configuration of the notification service: flags, each also an environment variable.

use std::{net::SocketAddr, time::Duration};

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
    /// Call webhooks at loopback, private and link-local addresses too. Customers choose the URLs: on a server that others
    /// use, this opens what is behind its firewall to them.
    #[arg(long, env = "ORDERLY_WEBHOOK_ALLOW_PRIVATE")]
    pub webhook_allow_private: bool,
    /// How long an e-mail or a webhook is tried before it is given up and becomes a dead letter, such as 24h.
    #[arg(long, env = "ORDERLY_GIVE_UP_AFTER", default_value = "24h", value_parser = humantime::parse_duration)]
    pub give_up_after: Duration,
}

impl Addresses for Config {
    fn listen(&self) -> SocketAddr {
        self.listen
    }

    fn admin(&self) -> SocketAddr {
        self.admin
    }
}
