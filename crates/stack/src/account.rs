//! The account that PostgreSQL runs as: it refuses to run as root, so root starts it as the `postgres` user.

use std::{
    fs, io,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::Path,
};

use nix::unistd::{Gid, Uid, User, chown, geteuid};

use crate::{Error, Result};

/// The account that Debian's package creates.
const NAME: &str = "postgres";

/// Another account than the caller's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Account {
    uid: Uid,
    gid: Gid,
}

impl Account {
    /// Whom PostgreSQL runs as; `None` is the caller.
    pub(crate) fn of_postgres() -> Result<Option<Self>> {
        if !geteuid().is_root() {
            return Ok(None);
        }
        let user =
            User::from_name(NAME).map_err(|errno| Error::io("look up the user `postgres`")(errno.into()))?;
        let user = user.ok_or(Error::Missing { software: "the user `postgres`", package: "postgresql" })?;
        Ok(Some(Self { uid: user.uid, gid: user.gid }))
    }

    pub(crate) fn ids(self) -> (u32, u32) {
        (self.uid.as_raw(), self.gid.as_raw())
    }

    pub(crate) fn own(self, path: &Path) -> Result<()> {
        chown(path, Some(self.uid), Some(self.gid))
            .map_err(|errno| Error::io(format!("give {} to `{NAME}`", path.display()))(errno.into()))
    }

    /// Checks that this account may enter a folder and all that are above it. A folder that is missing does not count:
    /// it will be made so that it may.
    pub(crate) fn enters(self, folder: &Path) -> Result<()> {
        let refuses = folder.ancestors().filter(|folder| !self.may_enter(folder)).last();
        refuses.map_or(Ok(()), |folder| Err(Error::Unreachable { user: NAME, folder: folder.to_owned() }))
    }

    fn may_enter(self, folder: &Path) -> bool {
        let Ok(metadata) = fs::metadata(folder) else { return true };
        let execute = if metadata.uid() == self.uid.as_raw() {
            0o100
        } else if metadata.gid() == self.gid.as_raw() {
            0o010
        } else {
            0o001
        };
        metadata.mode() & execute != 0
    }
}

/// Makes a folder and those above it that are missing, so that everyone may enter them whatever the umask is.
pub(crate) fn make_enterable(folder: &Path) -> Result<()> {
    let failed = |err: io::Error| Error::io(format!("make {}", folder.display()))(err);
    let missing: Vec<&Path> = folder.ancestors().take_while(|folder| !folder.exists()).collect();
    for folder in missing.into_iter().rev() {
        match fs::create_dir(folder) {
            Err(err) if err.kind() == io::ErrorKind::AlreadyExists => {}
            made => {
                made.map_err(failed)?;
                fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).map_err(failed)?;
            }
        }
    }
    Ok(())
}
