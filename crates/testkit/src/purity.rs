//! The rules of a service can be read, and tested, without knowing that a database, a network or a clock exists.

use std::{fs, path::Path};

use anyhow::{Context as _, ensure};

/// Words that need no dependency to reach out of the program, or to ask it for the time or for chance.
const OUTSIDE: [&str; 11] =
    ["fs", "io", "net", "process", "thread", "Instant", "SystemTime", "now_utc", "now_v7", "new_v4", "await"];

/// Checks `src/domain.rs` and `src/domain/` of a service, whose crate is `here`: of its dependencies they use the `pure`
/// ones only, which do nothing but compute, nothing that reaches out of the program, and nothing else of the service.
/// The `values` are lines that may stand there all the same: what they name of an impure dependency is a value.
///
/// # Errors
/// Names the first file that says what it must not.
pub fn check_purity(here: &Path, pure: &[&str], values: &[&str]) -> anyhow::Result<()> {
    let manifest = fs::read_to_string(here.join("Cargo.toml"))?;
    let dependencies = manifest.split("[dependencies]").nth(1).context("no [dependencies]")?;
    let names = dependencies.lines().take_while(|line| !line.starts_with('['));
    let names = names.filter_map(|line| line.split(['.', ' ']).next()).filter(|name| !name.is_empty());
    let impure: Vec<String> =
        names.filter(|name| !pure.contains(name)).map(|name| name.replace('-', "_")).collect();
    ensure!(impure.iter().any(|name| name == "sqlx"), "the manifest was not understood: {impure:?}");

    let (mut files, mut folders) = (vec![here.join("src/domain.rs")], vec![here.join("src/domain")]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    for path in files {
        let (source, file) = (fs::read_to_string(&path)?, path.display());
        let source = values.iter().fold(source, |source, value| source.replace(value, ""));
        let code = source.lines().filter(|line| !line.trim_start().starts_with("//"));
        let code = code.collect::<Vec<_>>().join("\n");
        for name in &impure {
            let found = code.contains(&format!("{name}::")) || code.contains(&format!("use {name}"));
            ensure!(!found, "{file} uses {name}");
        }
        for word in code.split(|letter: char| !letter.is_alphanumeric() && letter != '_') {
            ensure!(!OUTSIDE.contains(&word), "{file} says {word}");
        }
        for line in code.lines().filter(|line| line.contains("crate::")) {
            ensure!(line.contains("crate::domain"), "{file} uses the rest of the service: {line}");
        }
    }
    Ok(())
}
