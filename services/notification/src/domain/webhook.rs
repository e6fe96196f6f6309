//! Where a customer's webhook is, and what its calls are signed with.

use std::{fmt, str::FromStr};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use reqwest::Url;

use super::Invalid;

/// A customer's endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webhook {
    /// Where it is.
    pub url: WebhookUrl,
    /// What the calls to it are signed with.
    pub secret: WebhookSecret,
}

/// An `http` URL without user name and fragment, at most 2,048 characters. `Debug` shows its host only: a query can be as
/// good as a password.
#[derive(Clone, PartialEq, Eq)]
pub struct WebhookUrl(Url);

/// The key of an HMAC-SHA256: 24 to 64 bytes, written as `whsec_` and base64. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct WebhookSecret {
    text: String,
    key: Vec<u8>,
}

impl WebhookUrl {
    const MAX_LENGTH: usize = 2048;

    /// The parsed URL.
    pub const fn url(&self) -> &Url {
        &self.0
    }
}

impl FromStr for WebhookUrl {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        if text.len() > Self::MAX_LENGTH {
            return Err(Invalid("must be at most 2048 characters"));
        }
        // The parser would take white space and control characters out.
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Invalid("must be of visible ASCII characters"));
        }
        let url: Url =
            text.parse().map_err(|_| Invalid("must be a URL such as http://example.com/orders"))?;
        if url.scheme() != "http" {
            return Err(Invalid("must start with http:// (there is no TLS here; the calls are signed)"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Invalid("must not carry a user name or password"));
        }
        if url.fragment().is_some() {
            return Err(Invalid("must have no fragment"));
        }
        if url.port() == Some(0) {
            return Err(Invalid("must not have port 0"));
        }
        Ok(Self(url))
    }
}

impl AsRef<str> for WebhookUrl {
    fn as_ref(&self) -> &str {
        self.0.as_str()
    }
}

impl fmt::Debug for WebhookUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WebhookUrl({}…)", self.0.host_str().unwrap_or_default())
    }
}

impl WebhookSecret {
    const PREFIX: &'static str = "whsec_";

    /// The secret of these 32 bytes, which must be random.
    pub fn of(key: [u8; 32]) -> Self {
        Self { text: format!("{}{}", Self::PREFIX, BASE64_STANDARD.encode(key)), key: key.into() }
    }

    /// The key itself, for the signature only.
    pub fn key(&self) -> &[u8] {
        &self.key
    }

    /// As it is written, for the database and the customer only.
    pub fn expose(&self) -> &str {
        &self.text
    }
}

impl FromStr for WebhookSecret {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let key = text.strip_prefix(Self::PREFIX).and_then(|base64| BASE64_STANDARD.decode(base64).ok());
        match key {
            Some(key) if (24..=64).contains(&key.len()) => Ok(Self { text: text.to_owned(), key }),
            _ => Err(Invalid("must be whsec_ and 24 to 64 bytes in base64, or empty to have one made")),
        }
    }
}

impl fmt::Debug for WebhookSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WebhookSecret(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_one_that_can_be_called_without_giving_anything_away() {
        for good in [
            "http://example.com/",
            "http://example.com/hooks?customer=7&token=abc",
            "http://127.0.0.1:8080/x",
            "http://[::1]/",
        ] {
            let url = good.parse::<WebhookUrl>();
            assert_eq!(url.as_ref().map(AsRef::as_ref), Ok(good));
        }
        let long = format!("http://example.com/{}", "a".repeat(2030));
        for bad in [
            "",
            "example.com",
            "https://example.com/",
            "ftp://example.com/",
            "file:///etc/passwd",
            "http://",
            "http://user@example.com/",
            "http://:password@example.com/",
            "http://example.com/#here",
            "http://example.com:0/",
            "http://example.com:99999/",
            "http://exa mple.com/",
            "http://example.com/\r\nHost: other",
            "http://exämple.com/",
            &long,
        ] {
            assert!(bad.parse::<WebhookUrl>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_secret_is_of_24_to_64_bytes() {
        for (bytes, good) in [(0, false), (23, false), (24, true), (64, true), (65, false)] {
            let text = format!("whsec_{}", BASE64_STANDARD.encode(vec![7; bytes]));
            let secret = text.parse::<WebhookSecret>();
            assert_eq!(secret.is_ok_and(|secret| secret.key() == vec![7; bytes]), good, "{bytes}");
        }
        let made = WebhookSecret::of([9; 32]);
        assert_eq!(made.expose().parse(), Ok(made.clone()));
        let without_prefix = BASE64_STANDARD.encode([7; 32]);
        for bad in ["", "whsec_", "whsec_!", &without_prefix] {
            assert!(bad.parse::<WebhookSecret>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_webhook_does_not_show_in_debug_output() -> Result<(), Invalid> {
        let url = "http://example.com/hook?token=abc".parse()?;
        let webhook = Webhook { url, secret: WebhookSecret::of([9; 32]) };
        let shown = format!("{webhook:?}");
        assert_eq!(shown, "Webhook { url: WebhookUrl(example.com…), secret: WebhookSecret(..) }");
        Ok(())
    }
}
