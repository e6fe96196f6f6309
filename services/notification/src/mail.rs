//! E-mail over SMTP. One connection for each message: a delivery that is cut off by its deadline must not leave a
//! connection behind on which the next message would read the answer to this one.

use std::{borrow::Cow, error::Error as _, fmt, net::IpAddr, str::FromStr, time::Duration};

use consumer::dispatch::Performed;
use lettre::{
    Message,
    message::{
        Mailbox,
        header::{ContentType, HeaderName, HeaderValue},
    },
    transport::smtp::{client::AsyncSmtpConnection, extension::ClientId},
};
use tokio::net::TcpStream;
use tracing::{Span, field::Empty, info_span};

use crate::{
    dispatch::{Failure, Medium},
    domain::{Channel, EmailAddress, Invalid},
    store::Claimed,
};

/// From the connection to the server's answer that it has taken the message.
const DEADLINE: Duration = Duration::from_secs(10);
/// For saying goodbye; the message is delivered by then.
const QUIT: Duration = Duration::from_secs(1);

/// A mail server on this machine. Plain SMTP would show e-mails and addresses to a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    host: String,
    port: u16,
}

/// The address of a mail server cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServerError {
    /// Not `host:port`.
    #[error("must be host:port, such as 127.0.0.1:2525")]
    Form,
    /// Another machine.
    #[error(
        "{0} is not on this machine, and SMTP without TLS would show e-mails to the network: use a mail relay on a loopback address"
    )]
    NotLoopback(String),
}

/// Sends e-mails.
pub struct Mailer {
    server: Server,
    from: Mailbox,
    client: ClientId,
}

/// Why the server has not, as far as is known, taken a message. Never shows an address.
#[derive(Debug, thiserror::Error)]
pub enum DeliveryError {
    /// It answered, and no.
    #[error("mail server answered {code}")]
    Refused {
        /// The three digits.
        code: String,
        /// 5xx: it will not take it later either, unless somebody changes something.
        permanent: bool,
    },
    /// It did not answer, or stopped.
    #[error("mail server is not reachable: {0}")]
    Unreachable(String),
    /// It said too little within the deadline; it may have taken the message.
    #[error("mail server did not answer within {} s", DEADLINE.as_secs())]
    TimedOut,
    /// No message can be made of it.
    #[error("message cannot be built")]
    Build(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl Failure for DeliveryError {
    fn kind(&self) -> Cow<'static, str> {
        match self {
            Self::Refused { code, .. } => code.clone().into(),
            Self::Unreachable(_) => "connection_lost".into(),
            Self::TimedOut => "timeout".into(),
            Self::Build(_) => "invalid_message".into(),
        }
    }

    fn is_permanent(&self) -> bool {
        matches!(self, Self::Refused { permanent: true, .. } | Self::Build(_))
    }

    /// What it tells about the mail server, which all e-mails share.
    fn performed(&self) -> Performed {
        match self {
            Self::Unreachable(_) | Self::TimedOut => Performed::Unavailable,
            // 4xx: not now.
            Self::Refused { permanent: false, .. } => Performed::Unavailable,
            Self::Refused { permanent: true, .. } => Performed::Answered,
            Self::Build(_) => Performed::Unasked,
        }
    }
}

impl Medium for Mailer {
    const CHANNEL: &'static str = Channel::EMAIL;
    const NAME: &'static str = "emails";
    const CONCURRENCY: usize = 16;
    type Error = DeliveryError;

    fn span(&self, notification: &Claimed) -> Span {
        info_span!(
            "send mail",
            otel.kind = "client",
            otel.status_code = Empty,
            network.protocol.name = "smtp",
            server.address = self.server.host,
            server.port = i64::from(self.server.port),
            error.type = Empty,
            order_id = %notification.order_id,
            notification_id = %notification.notification_id,
            attempt = notification.attempts,
        )
    }

    async fn deliver(&self, notification: &Claimed) -> Result<(), DeliveryError> {
        match notification.contact.channel() {
            Ok(Channel::Email(address)) => self.send(notification, &address).await,
            Ok(_) => Err(DeliveryError::Build(Invalid("channel is another one").into())),
            Err(error) => Err(DeliveryError::Build(error.into())),
        }
    }
}

impl Mailer {
    /// Mail through `server`, from `from`.
    pub fn new(server: Server, from: Mailbox) -> Self {
        Self { server, from, client: ClientId::default() }
    }

    /// Sends one attempt; the same notification always has the same Message-ID.
    pub async fn send(&self, notification: &Claimed, to: &EmailAddress) -> Result<(), DeliveryError> {
        let message = self.message(notification, to)?;
        tokio::time::timeout(DEADLINE, self.transfer(&message)).await.map_err(|_| DeliveryError::TimedOut)?
    }

    fn message(&self, notification: &Claimed, to: &EmailAddress) -> Result<Message, DeliveryError> {
        let header = |name, value| HeaderValue::new(HeaderName::new_from_ascii_str(name), value);
        Message::builder()
            .from(self.from.clone())
            .to(Mailbox::new(None, to.address().clone()))
            .subject(&notification.subject)
            .message_id(Some(format!("<{}@orderly>", notification.notification_id)))
            .raw_header(header("X-Orderly-Order-Id", notification.order_id.to_string()))
            .raw_header(header("X-Orderly-Kind", notification.kind.clone()))
            .header(ContentType::TEXT_PLAIN)
            .body(notification.body.clone())
            .map_err(|error| DeliveryError::Build(error.into()))
    }

    async fn transfer(&self, message: &Message) -> Result<(), DeliveryError> {
        let Server { host, port } = &self.server;
        let unreachable = |error: std::io::Error| DeliveryError::Unreachable(error.to_string());
        let stream = TcpStream::connect((host.as_str(), *port)).await.map_err(unreachable)?;
        // A message's end is written by itself; Nagle's algorithm would hold it back for 40 ms.
        stream.set_nodelay(true).map_err(unreachable)?;
        let mut connection =
            AsyncSmtpConnection::connect_with_transport(Box::new(stream), &self.client).await?;
        connection.send(message.envelope(), &message.formatted()).await?;
        // Taken. What happens to the connection does not matter any more.
        let _ = tokio::time::timeout(QUIT, connection.abort()).await;
        Ok(())
    }
}

impl FromStr for Server {
    type Err = ServerError;

    fn from_str(server: &str) -> Result<Self, ServerError> {
        let (host, port) = server.rsplit_once(':').ok_or(ServerError::Form)?;
        let port = port.parse().ok().filter(|port| *port != 0).ok_or(ServerError::Form)?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if host.is_empty() {
            return Err(ServerError::Form);
        }
        let loopback = host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
        if !loopback {
            return Err(ServerError::NotLoopback(host.to_owned()));
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl From<lettre::transport::smtp::Error> for DeliveryError {
    fn from(error: lettre::transport::smtp::Error) -> Self {
        // A reply's text can repeat the recipient's address: only its code is kept.
        if let Some(code) = error.status() {
            return Self::Refused { code: code.to_string(), permanent: error.is_permanent() };
        }
        if error.is_response() {
            return Self::Unreachable("its answer was cut off, or is no SMTP".to_owned());
        }
        Self::Unreachable(error.source().map_or_else(|| "connection failed".to_owned(), ToString::to_string))
    }
}

#[cfg(test)]
mod tests {
    use time::OffsetDateTime;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn only_this_machine_is_sent_mail_without_tls() {
        for good in ["127.0.0.1:2525", "127.9.9.9:25", "[::1]:2525", "localhost:1025"] {
            let server = good.parse::<Server>();
            assert_eq!(server.map(|server| server.to_string()), Ok(good.to_owned()));
        }
        for other in ["10.0.0.1:25", "mail.example.com:587", "[2001:db8::1]:25", "127.0.0.1.example.com:25"] {
            assert!(matches!(other.parse::<Server>(), Err(ServerError::NotLoopback(_))), "{other}");
        }
        for wrong in ["", "127.0.0.1", ":25", "127.0.0.1:0", "127.0.0.1:smtp", "127.0.0.1:99999"] {
            assert_eq!(wrong.parse::<Server>(), Err(ServerError::Form), "{wrong}");
        }
    }

    #[test]
    fn a_mail_server_is_unavailable_when_it_says_nothing_or_not_now() {
        let refused = |code: &str, permanent| DeliveryError::Refused { code: code.to_owned(), permanent };
        assert_eq!(DeliveryError::Unreachable(String::new()).performed(), Performed::Unavailable);
        assert_eq!(DeliveryError::TimedOut.performed(), Performed::Unavailable);
        assert_eq!(refused("421", false).performed(), Performed::Unavailable);
        assert_eq!(refused("550", true).performed(), Performed::Answered);
        assert_eq!(DeliveryError::Build("no message".into()).performed(), Performed::Unasked);
    }

    #[test]
    fn a_message_carries_its_notification() -> Result<(), Box<dyn std::error::Error>> {
        let mailer = Mailer::new("127.0.0.1:2525".parse()?, "Orderly <orders@orderly.example>".parse()?);
        let notification = Claimed {
            notification_id: Uuid::nil(),
            order_id: Uuid::max(),
            customer_id: "cust-1".into(),
            kind: "ORDER_CONFIRMED".into(),
            contact: (&Channel::Email("ann@example.com".parse()?)).into(),
            subject: "Your order is confirmed".into(),
            body: "Hello,\n\nÉtienne\n".into(),
            attempts: 1,
            created_at: OffsetDateTime::UNIX_EPOCH,
            first_attempt_at: OffsetDateTime::UNIX_EPOCH,
            tried_secs: 0.0,
            traceparent: None,
            tracestate: None,
        };
        let message = mailer.message(&notification, &"ann@example.com".parse()?)?;
        let text = String::from_utf8(message.formatted())?;
        for line in [
            "From: Orderly <orders@orderly.example>\r\n",
            "To: ann@example.com\r\n",
            "Subject: Your order is confirmed\r\n",
            "Message-ID: <00000000-0000-0000-0000-000000000000@orderly>\r\n",
            "X-Orderly-Order-Id: ffffffff-ffff-ffff-ffff-ffffffffffff\r\n",
            "X-Orderly-Kind: ORDER_CONFIRMED\r\n",
        ] {
            assert!(text.contains(line), "{line:?} is missing in {text}");
        }
        assert!(text.is_ascii(), "{text}");
        Ok(())
    }
}
