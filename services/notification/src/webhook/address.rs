//! Which addresses a customer's URL may lead to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use reqwest::{
    Url,
    dns::{Addrs, Name, Resolve, Resolving},
};

use super::CallError;

/// All of a name's addresses are private, or the address is.
#[derive(Debug, thiserror::Error)]
#[error("address is loopback, private or link-local")]
pub(super) struct Private;

/// Looks names up for the connection itself, so that what was checked is what is connected to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Resolver {
    pub allow_private: bool,
}

impl Resolver {
    /// Refuses a URL whose host is a private address; of a name nothing is known yet.
    pub fn check(self, url: &Url) -> Result<(), CallError> {
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
        match host.parse() {
            Ok(address) if !self.allows(address) => Err(CallError::Private),
            _ => Ok(()),
        }
    }

    fn allows(self, address: IpAddr) -> bool {
        self.allow_private || is_public(address)
    }
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let this = *self;
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let allowed: Vec<SocketAddr> = found.filter(|address| this.allows(address.ip())).collect();
            if allowed.is_empty() {
                return Err(Private.into());
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

/// Whether everybody can reach it: the special-purpose registries of IANA, RFC 6890.
fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let special = match address.octets() {
        // This network, shared by carriers, protocol assignments, benchmarks.
        [0, ..] | [100, 64..=127, ..] | [192, 0, 0, _] | [198, 18 | 19, ..] => true,
        // Reserved, with the broadcast address.
        [240..=255, ..] => true,
        _ => false,
    };
    !(special
        || address.is_loopback()
        || address.is_private()
        || address.is_link_local()
        || address.is_multicast()
        || address.is_documentation())
}

/// Of `2000::/3` only, and nothing that carries an IPv4 address within.
fn is_public_v6(address: Ipv6Addr) -> bool {
    match address.segments() {
        // Protocol assignments with Teredo, documentation, 6to4.
        [0x2001, 0..=0x01ff, ..] | [0x2001, 0x0db8, ..] | [0x2002, ..] => false,
        // Documentation.
        [0x3fff, 0..=0x0fff, ..] => false,
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_public_when_everybody_can_reach_it() -> Result<(), std::net::AddrParseError> {
        for public in ["8.8.8.8", "1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "::ffff:8.8.8.8"]
        {
            assert!(is_public(public.parse()?), "{public}");
        }
        for private in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "127.0.0.1",
            "127.9.9.9",
            "169.254.169.254",
            "172.16.0.1",
            "192.0.0.1",
            "192.0.2.1",
            "192.168.1.1",
            "198.18.0.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "2001:0:1::1",
            "2001:db8::1",
            "2002:7f00:1::1",
            "3fff::1",
            "fc00::1",
            "fd12:3456::1",
            "fe80::1",
            "ff02::1",
        ] {
            assert!(!is_public(private.parse()?), "{private}");
        }
        Ok(())
    }

    #[test]
    fn an_address_has_many_spellings() -> Result<(), Box<dyn std::error::Error>> {
        let resolver = Resolver { allow_private: false };
        for url in [
            "http://127.0.0.1/",
            "http://0x7f000001/",
            "http://2130706433/",
            "http://127.1/",
            "http://[::1]/",
        ] {
            let url = url.parse()?;
            assert!(resolver.check(&url).is_err(), "{url}");
            assert!(Resolver { allow_private: true }.check(&url).is_ok(), "{url}");
        }
        assert!(resolver.check(&"http://example.com/".parse()?).is_ok());
        Ok(())
    }
}
