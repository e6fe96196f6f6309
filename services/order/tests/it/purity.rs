//! The rules of an order can be read, and tested, without knowing that a database, a network or a clock exists.

use std::path::Path;

use testkit::check_purity;

/// The dependencies that do nothing but compute.
const PURE: [&str; 5] = ["serde", "serde_json", "thiserror", "time", "uuid"];

#[test]
fn the_domain_knows_no_infrastructure() -> anyhow::Result<()> {
    check_purity(Path::new(env!("CARGO_MANIFEST_DIR")), &PURE, &[])
}
