//! The folder in which a platform keeps its state, and what lies where in it.

use std::path::{Path, PathBuf};

/// The folder in which a platform keeps its state.
///
/// Commands that need it flatten this beside their own arguments; the flag is global, so it may stand anywhere.
#[derive(Clone, Debug, clap::Args)]
pub struct DataDir {
    /// Folder that holds the platform's state
    #[arg(
        long,
        env = "ORDERLY_DATA_DIR",
        hide_env_values = true,
        default_value = ".orderly",
        global = true,
        value_name = "DIR"
    )]
    pub data_dir: PathBuf,
}

impl DataDir {
    /// The folder itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.data_dir
    }

    pub(crate) fn credentials(&self) -> PathBuf {
        self.data_dir.join("credentials.json")
    }

    pub(crate) fn record(&self) -> PathBuf {
        self.data_dir.join("up.json")
    }

    pub(crate) fn lock(&self) -> PathBuf {
        self.data_dir.join("up.lock")
    }

    pub(crate) fn log(&self, process: &str) -> PathBuf {
        self.data_dir.join("logs").join(format!("{process}.log"))
    }

    pub(crate) fn provider_ledger(&self) -> PathBuf {
        self.data_dir.join("provider.ndjson")
    }

    pub(crate) fn mail_ledger(&self) -> PathBuf {
        self.data_dir.join("mail.ndjson")
    }
}

impl From<&Path> for DataDir {
    fn from(path: &Path) -> Self {
        Self { data_dir: path.to_owned() }
    }
}
