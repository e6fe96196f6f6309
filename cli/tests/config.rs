//! The documents agree with the code. docs/CONFIG.md is made from the command lines; `make docs` writes it anew.

use std::{fmt::Write as _, fs, path::Path};

use clap::{Arg, Command, CommandFactory as _};

const INTRODUCTION: &str = "\
# Configuration

Every setting is a flag, and most are an environment variable too; the flag wins. This page is made from the code
(`make docs`), and a test compares the two. `check-config` prints what a process would run with, without its secrets.

Every process also reads `RUST_LOG` (what is logged: `info`, or `warn,outbox_relay=debug`) and the standard
`OTEL_EXPORTER_OTLP_*`, `OTEL_TRACES_SAMPLER` and `OTEL_RESOURCE_ATTRIBUTES` variables; without an OTLP endpoint no span
leaves the process, with one, one in twenty of the traces does, and those that a caller samples (docs/TELEMETRY.md).
";

#[test]
fn the_page_says_what_the_code_takes() -> anyhow::Result<()> {
    let mut page = INTRODUCTION.to_owned();
    for (command, about) in [
        (service::command::<order::OrderService>(), "The order service."),
        (service::command::<inventory::Inventory>(), "Inventory."),
        (service::command::<billing::Billing>(), "Billing."),
        (service::command::<notification::Notification>(), "Notification."),
        (<outbox_relay::config::Cli as clap::CommandFactory>::command(), "The relay of all outboxes."),
        (cli::Cli::command().name("orderly"), "The platform on one machine."),
    ] {
        section(&mut page, command, about)?;
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/CONFIG.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, &page)?;
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(written == page, "docs/CONFIG.md is not what the code takes: run `make docs`");
    Ok(())
}

/// Paths in backticks that begin at the root of the repository.
#[test]
fn the_documents_name_files_that_exist() -> anyhow::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for document in ["README.md", "CONTRIBUTING.md", "docs/ARCHITECTURE.md"] {
        let text = fs::read_to_string(root.join(document))?;
        let roots = ["services/", "crates/", "outbox-relay/", "cli/", "proto/", "docs/", "grafana/"];
        for path in text.split('`').skip(1).step_by(2) {
            let path = path.split_whitespace().next().unwrap_or_default();
            if roots.iter().any(|root| path.starts_with(root)) && !path.contains(['<', '*']) {
                assert!(root.join(path).exists(), "{document} names {path}");
            }
        }
    }
    Ok(())
}

fn section(page: &mut String, mut command: Command, about: &str) -> std::fmt::Result {
    command.build();
    let name = command.get_name().to_owned();
    write!(page, "\n## {name}\n\n{about}\n")?;
    let subcommands: Vec<&Command> =
        command.get_subcommands().filter(|sub| sub.get_name() != "help" && !sub.is_hide_set()).collect();
    if !subcommands.is_empty() {
        page.push_str("\n| command | does |\n|---|---|\n");
        for sub in &subcommands {
            writeln!(page, "| `{name} {}` | {} |", sub.get_name(), cell(sub.get_about()))?;
        }
    }
    // A subcommand takes these too; only what it adds is told again.
    let own = flags(&command);
    table(page, None, &own)?;
    for sub in subcommands {
        let leaves: Vec<&Command> = match sub.has_subcommands() {
            true => sub.get_subcommands().filter(|leaf| leaf.get_name() != "help").collect(),
            false => vec![sub],
        };
        for leaf in leaves {
            let path = if leaf.get_name() == sub.get_name() {
                format!("{name} {}", sub.get_name())
            } else {
                format!("{name} {} {}", sub.get_name(), leaf.get_name())
            };
            let mut more = flags(leaf);
            more.retain(|arg| !own.iter().any(|known| known.get_id() == arg.get_id()));
            table(page, Some(&path), &more)?;
        }
    }
    Ok(())
}

fn table(page: &mut String, title: Option<&str>, flags: &[&Arg]) -> std::fmt::Result {
    if flags.is_empty() {
        return Ok(());
    }
    if let Some(title) = title {
        write!(page, "\n### {title}\n")?;
    }
    page.push_str("\n| flag | variable | default | meaning |\n|---|---|---|---|\n");
    for arg in flags {
        let name = match (arg.get_long(), arg.get_action().takes_values()) {
            (Some(long), true) => format!("`--{long} <{}>`", value(arg)),
            (Some(long), false) => format!("`--{long}`"),
            (None, _) => format!("`<{}>`", value(arg)),
        };
        let variable = arg.get_env().map(|env| format!("`{}`", env.to_string_lossy())).unwrap_or_default();
        let defaults: Vec<_> = arg.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
        let default = match (arg.is_required_set(), defaults.join(",")) {
            (true, _) => "required".to_owned(),
            (false, text) if text.is_empty() || !arg.get_action().takes_values() => String::new(),
            (false, text) => format!("`{text}`"),
        };
        writeln!(page, "| {name} | {variable} | {default} | {} |", cell(arg.get_help()))?;
    }
    Ok(())
}

fn flags(command: &Command) -> Vec<&Arg> {
    let arguments = command.get_arguments();
    arguments
        .filter(|arg| !arg.is_hide_set() && !["help", "version"].contains(&arg.get_id().as_str()))
        .collect()
}

fn value(arg: &Arg) -> String {
    let possible = arg.get_possible_values();
    if possible.is_empty() {
        let names = arg.get_value_names().and_then(<[_]>::first);
        return names.map(ToString::to_string).unwrap_or_default();
    }
    possible.iter().map(|value| value.get_name()).collect::<Vec<_>>().join("\\|")
}

fn cell(text: Option<&clap::builder::StyledStr>) -> String {
    let text = text.map(ToString::to_string).unwrap_or_default();
    text.trim_end_matches('.').replace('\n', " ").replace('|', "\\|")
}
