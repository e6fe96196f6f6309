//! Which letters, who wants something of them, and why.

use anyhow::Context as _;
use clap::ArgGroup;
use consumer::dead_letters::{Act, Filter};
use uuid::Uuid;

use super::text;
use crate::platform::Database;

/// Which letters. What is not given selects all.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct Filters {
    /// Those of this consumer group, without the platform's prefix
    #[arg(long, value_name = "GROUP", value_parser = Database::ALL.map(Database::service))]
    consumer: Option<String>,
    /// Those of this topic, without prefix
    #[arg(long)]
    topic: Option<String>,
    /// Those of this event type, by its full protobuf name
    #[arg(long = "type", value_name = "TYPE")]
    event_type: Option<String>,
    /// Those that failed in this way
    #[arg(long, value_parser = ["poison", "bug", "too-old", "clock", "undelivered"])]
    kind: Option<String>,
    /// Those with this error, by the fingerprint in `list`
    #[arg(long)]
    fingerprint: Option<String>,
    /// Those with this key; `hex:` and digits for one that is not text
    #[arg(long, value_parser = key)]
    key: Option<Key>,
}

/// Which letters something is to be done with.
#[derive(Clone, Debug, clap::Args)]
#[command(group = ArgGroup::new("selection").required(true).multiple(true).args([
    "ids", "consumer", "topic", "event_type", "kind", "fingerprint", "key", "all",
]))]
pub(super) struct Selection {
    /// Ids of parked letters
    #[arg(value_name = "ID", conflicts_with_all = ["Filters", "all"])]
    pub(super) ids: Vec<Uuid>,
    #[command(flatten)]
    pub(super) filters: Filters,
    /// Every parked letter
    #[arg(long, conflicts_with = "Filters")]
    all: bool,
}

/// Who does it, and why; it is kept with each letter.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Because {
    /// Why; the audit keeps it
    #[arg(long, value_name = "TEXT", value_parser = some_text)]
    reason: String,
    /// Who does it; the login name where it is not said
    #[arg(long, value_name = "NAME", value_parser = some_text)]
    actor: Option<String>,
}

/// Bytes, given as text or in hex.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Key(Vec<u8>);

impl Filters {
    /// Whether they let letters of this group pass.
    pub(super) fn is_of(&self, service: &str) -> bool {
        self.consumer.as_deref().is_none_or(|consumer| consumer == service)
    }

    /// The same for one group, by its full name.
    pub(super) fn within(&self, group: &str) -> Filter {
        Filter {
            ids: Vec::new(),
            consumer: Some(group.to_owned()),
            topic: self.topic.clone(),
            event_type: self.event_type.clone(),
            kind: self.kind.clone(),
            fingerprint: self.fingerprint.clone(),
            key: self.key.as_ref().map(|key| key.0.clone()),
        }
    }
}

impl Because {
    /// The name under which it is kept.
    ///
    /// # Errors
    /// When nobody says it.
    pub(super) fn actor(&self) -> anyhow::Result<String> {
        let login = || nix::unistd::User::from_uid(nix::unistd::Uid::current()).ok().flatten();
        let user = std::env::var("USER").ok().filter(|user| !user.trim().is_empty());
        let name = self.actor.clone().or(user).or_else(|| Some(login()?.name));
        name.context("who does this? Say so with --actor NAME")
    }

    /// Both, for the audit.
    pub(super) fn act<'a>(&'a self, actor: &'a str) -> Act<'a> {
        Act { actor, reason: &self.reason }
    }
}

fn some_text(text: &str) -> Result<String, String> {
    if text.trim().is_empty() { Err("it says nothing".to_owned()) } else { Ok(text.trim().to_owned()) }
}

fn key(text: &str) -> Result<Key, String> {
    match text.strip_prefix(text::HEX) {
        None => Ok(Key(text.as_bytes().to_vec())),
        Some(hex) => text::from_hex(hex).map(Key).ok_or_else(|| "not pairs of hex digits".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_given_as_it_is_shown() {
        for bytes in [b"o-1".to_vec(), vec![0, 255], b"hex:00".to_vec(), Vec::new()] {
            assert_eq!(key(&text::bytes(&bytes)), Ok(Key(bytes)));
        }
        assert!(key("hex:0").is_err() && key("hex:0g").is_err());
    }

    #[test]
    fn a_group_is_said_without_prefix() {
        let filters = Filters { consumer: Some("billing".to_owned()), ..Filters::default() };
        assert!(filters.is_of("billing") && !filters.is_of("order"));
        assert_eq!(filters.within("t1-billing").consumer.as_deref(), Some("t1-billing"));
    }
}
