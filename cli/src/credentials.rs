//! The passwords of the platform's PostgreSQL roles: made once, kept in `<data>/credentials.json` (mode 0600), never
//! printed.

use std::{
    collections::BTreeMap,
    fmt, fs,
    io::{self, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

/// The roles that `up` provisions: the superuser, the relay, the auditor, the operator, the monitor, and two a database.
pub const SUPERUSER: &str = "postgres";
/// Reads the outboxes and moves their cursors.
pub const RELAY: &str = "orderly_relay";
/// Reads everything, writes nothing: `verify` and the console.
pub const AUDIT: &str = "orderly_audit";
/// Works through dead letters: `dlq` and the console.
pub const OPERATOR: &str = "orderly_operator";
/// Reads the server's statistics: the PostgreSQL exporter.
pub const MONITOR: &str = "orderly_monitor";

/// Passwords by role name.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct Credentials {
    passwords: BTreeMap<String, String>,
}

impl Credentials {
    /// Reads the kept passwords and adds one for each of `roles` that has none yet.
    ///
    /// # Errors
    /// When the file cannot be read, is not ours, or cannot be written.
    pub fn ensure<'a>(path: &Path, roles: impl IntoIterator<Item = &'a str>) -> anyhow::Result<Self> {
        let mut credentials = Self::read(path)?.unwrap_or_default();
        let before = credentials.passwords.len();
        for role in roles {
            credentials.passwords.entry(role.to_owned()).or_insert_with(generate);
        }
        if credentials.passwords.len() != before {
            credentials.write(path)?;
        }
        Ok(credentials)
    }

    /// Reads the kept passwords; `None` when there are none yet.
    ///
    /// # Errors
    /// When the file cannot be read or is not a credentials file.
    pub fn read(path: &Path) -> anyhow::Result<Option<Self>> {
        let text = match fs::read(path) {
            Ok(text) => text,
            Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(err) => return Err(err).with_context(|| format!("could not read {}", path.display())),
        };
        let credentials = serde_json::from_slice(&text)
            .with_context(|| format!("{} is not a credentials file", path.display()))?;
        Ok(Some(credentials))
    }

    /// The password of a role.
    #[must_use]
    pub fn password(&self, role: &str) -> Option<&str> {
        self.passwords.get(role).map(String::as_str)
    }

    fn write(&self, path: &Path) -> anyhow::Result<()> {
        let draft = path.with_extension("json.new");
        let write = || -> anyhow::Result<()> {
            let mut file =
                fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
            // A draft left by an interrupted run may have another mode.
            file.set_permissions(fs::Permissions::from_mode(0o600))?;
            file.write_all(&serde_json::to_vec_pretty(self)?)?;
            file.sync_all()?;
            fs::rename(&draft, path)?;
            Ok(())
        };
        write().with_context(|| format!("could not write {}", path.display()))
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.passwords.keys()).finish()
    }
}

/// 192 random bits in hexadecimal: safe in a URL, in SQL and in a file without quoting.
fn generate() -> String {
    rand::random::<[u8; 24]>().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_made_once_and_kept_private() -> anyhow::Result<()> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("credentials.json");
        let first = Credentials::ensure(&path, [RELAY, AUDIT])?;
        let second = Credentials::ensure(&path, [RELAY, AUDIT, SUPERUSER])?;
        assert_eq!(first.password(RELAY), second.password(RELAY));
        assert_ne!(second.password(RELAY), second.password(AUDIT));
        assert_eq!(fs::metadata(&path)?.permissions().mode() & 0o777, 0o600);
        let shown = format!("{second:?}");
        assert!(!shown.contains(second.password(RELAY).unwrap_or_default()), "{shown}");
        Ok(())
    }
}
