//! What a customer is told can be read, and tested, without knowing that a database, a network or a clock exists.

use std::path::Path;

use testkit::check_purity;

/// The dependencies that do nothing but compute.
const PURE: [&str; 4] = ["base64", "thiserror", "time", "uuid"];

#[test]
fn the_domain_knows_no_infrastructure() -> anyhow::Result<()> {
    // An address is a value, and so is a URL; all else of those libraries is I/O.
    check_purity(Path::new(env!("CARGO_MANIFEST_DIR")), &PURE, &["use lettre::Address;", "use reqwest::Url;"])
}
