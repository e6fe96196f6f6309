//! What a customer is told can be read, and tested, without knowing that a database, a network or a clock exists.

use std::{fs, path::Path};

use anyhow::Context as _;

/// The dependencies that do nothing but compute.
const PURE: [&str; 4] = ["base64", "thiserror", "time", "uuid"];
/// Words that need no dependency to reach out of the program, or to ask it for the time or for chance.
const OUTSIDE: [&str; 11] =
    ["fs", "io", "net", "process", "thread", "Instant", "SystemTime", "now_utc", "now_v7", "new_v4", "await"];

#[test]
fn the_domain_knows_no_infrastructure() -> anyhow::Result<()> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest = fs::read_to_string(here.join("Cargo.toml"))?;
    let dependencies = manifest.split("[dependencies]").nth(1).context("no [dependencies]")?;
    let names = dependencies.lines().take_while(|line| !line.starts_with('['));
    let names = names.filter_map(|line| line.split(['.', ' ']).next()).filter(|name| !name.is_empty());
    let impure: Vec<String> =
        names.filter(|name| !PURE.contains(name)).map(|name| name.replace('-', "_")).collect();
    assert!(impure.iter().any(|name| name == "sqlx"), "the manifest was not understood: {impure:?}");

    let mut files = vec![here.join("src/domain.rs")];
    for entry in fs::read_dir(here.join("src/domain"))? {
        files.push(entry?.path());
    }
    for path in files {
        // An address is a value, and so is a URL; all else of those libraries is I/O.
        let source = fs::read_to_string(&path)?;
        let source = source.replace("use lettre::Address;", "").replace("use reqwest::Url;", "");
        let file = path.display();
        let code = source.lines().filter(|line| !line.trim_start().starts_with("//"));
        let code = code.collect::<Vec<_>>().join("\n");
        for name in &impure {
            let found = code.contains(&format!("{name}::")) || code.contains(&format!("use {name}"));
            assert!(!found, "{file} uses {name}");
        }
        for word in code.split(|letter: char| !letter.is_alphanumeric() && letter != '_') {
            assert!(!OUTSIDE.contains(&word), "{file} says {word}");
        }
        for line in code.lines().filter(|line| line.contains("crate::")) {
            assert!(line.contains("crate::domain"), "{file} uses the rest of the service: {line}");
        }
    }
    Ok(())
}
