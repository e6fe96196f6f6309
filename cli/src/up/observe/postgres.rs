//! The PostgreSQL exporter, as a role that may read statistics and nothing else.

use std::{collections::HashMap, net::SocketAddr, path::Path};

use anyhow::Context as _;
use reqwest::Url;

use crate::{credentials::MONITOR, platform::Platform, supervisor::program::Program, up::Args};

/// The password goes by the environment: everyone on the machine can read arguments.
pub(super) fn program(
    args: &Args,
    platform: &Platform,
    executable: &Path,
    address: SocketAddr,
) -> anyhow::Result<Program> {
    let password = platform.credentials()?.password(MONITOR);
    let password = password.with_context(|| format!("role {MONITOR} has no password"))?;
    let server = match &args.postgres {
        Some(url) => source(url),
        None => source(&Url::parse(&platform.endpoints().postgres)?),
    };
    let env =
        [("DATA_SOURCE_URI", server.as_str()), ("DATA_SOURCE_USER", MONITOR), ("DATA_SOURCE_PASS", password)];
    let flags = [&format!("--web.listen-address={address}"), "--auto-discover-databases"];
    Ok(Program::Command {
        executable: executable.to_owned(),
        args: flags.map(Into::into).to_vec(),
        env: env.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
    })
}

/// A server as the exporter names it: without role and scheme, and with its TLS.
///
/// The exporter's driver, lib/pq, knows four modes and never falls back from one to another. `prefer`, which begins with
/// TLS, becomes `require`; `allow`, which begins without, and no mode at all become `disable`.
fn source(url: &Url) -> String {
    let options: HashMap<_, _> = url.query_pairs().collect();
    let mode = match options.get("sslmode").map(AsRef::as_ref) {
        Some("prefer") => "require",
        Some(mode @ ("require" | "verify-ca" | "verify-full")) => mode,
        _ => "disable",
    };
    let files = ["sslrootcert", "sslcert", "sslkey"];
    let files = files.into_iter().filter_map(|name| Some((name, options.get(name)?.as_ref())));
    let mut server = url.clone();
    server.query_pairs_mut().clear().append_pair("sslmode", mode).extend_pairs(files);
    let (host, query) = (server.host_str().unwrap_or("127.0.0.1"), server.query().unwrap_or_default());
    format!("{host}:{}/postgres?{query}", server.port().unwrap_or(5432))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_keeps_its_tls_and_loses_its_role() -> anyhow::Result<()> {
        for (url, expected) in [
            ("postgres://127.0.0.1:5433", "127.0.0.1:5433/postgres?sslmode=disable"),
            (
                "postgres://boss:secret@db.example/x?sslmode=prefer",
                "db.example:5432/postgres?sslmode=require",
            ),
            ("postgres://b:s@db?sslmode=allow", "db:5432/postgres?sslmode=disable"),
            (
                "postgres://b:s@db?sslkey=/k%26y&sslmode=verify-ca&sslrootcert=/ca&sslcert=/c&application_name=x",
                "db:5432/postgres?sslmode=verify-ca&sslrootcert=%2Fca&sslcert=%2Fc&sslkey=%2Fk%26y",
            ),
            ("postgres://b:s@db:1?sslmode=verify-full", "db:1/postgres?sslmode=verify-full"),
        ] {
            assert_eq!(source(&Url::parse(url)?), expected);
        }
        Ok(())
    }
}
