//! A temporary folder that the `postgres` user can enter, gone with its servers' data when it is dropped.

use std::{fs::Permissions, os::unix::fs::PermissionsExt as _, path::Path};

pub struct Scratch(tempfile::TempDir);

impl Scratch {
    pub fn new() -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("stack-").tempdir()?;
        std::fs::set_permissions(folder.path(), Permissions::from_mode(0o755))?;
        Ok(Self(folder))
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }
}
