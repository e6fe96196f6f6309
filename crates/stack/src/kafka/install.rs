//! Kafka's libraries, and what else a POM names, from Maven Central.

use std::{
    fs::{self, File, TryLockError},
    path::Path,
    time::Duration,
};

use tokio::{
    process::Command,
    time::{Instant, sleep},
};

use crate::{Error, Result, program};

/// What is installed. It lies among the libraries once all of them are there.
const POM: &str = include_str!("../../kafka/pom.xml");
const POM_FILE: &str = "pom.xml";
/// How long the download may take: 54 MB.
const WITHIN: Duration = Duration::from_secs(600);
/// How often another process's lock is tried.
const TRY_EVERY: Duration = Duration::from_millis(100);

/// Whether the libraries are there, all of them and of this version.
#[must_use]
pub fn is_installed(libs: &Path) -> bool {
    is_pom_installed(POM, libs)
}

fn is_pom_installed(pom: &str, folder: &Path) -> bool {
    fs::read_to_string(folder.join(POM_FILE)).is_ok_and(|installed| installed == pom)
}

/// Downloads the libraries with Maven, unless they are there. Of processes that ask at the same time, one does it and
/// the others wait.
///
/// # Errors
/// When Maven is missing or fails, or a folder cannot be written.
pub async fn install(libs: &Path) -> Result<()> {
    install_pom(POM, libs).await
}

/// The same for what any POM depends on.
pub(super) async fn install_pom(pom: &str, folder: &Path) -> Result<()> {
    if is_pom_installed(pom, folder) {
        return Ok(());
    }
    if let Some(parent) = folder.parent() {
        fs::create_dir_all(parent).map_err(Error::io(format!("make {}", parent.display())))?;
    }
    let _lock = lock(&folder.with_extension("lock")).await?;
    if is_pom_installed(pom, folder) {
        return Ok(());
    }
    let draft = folder.with_extension("new");
    for old in [folder, &draft] {
        if old.exists() {
            fs::remove_dir_all(old).map_err(Error::io(format!("delete {}", old.display())))?;
        }
    }
    let file = draft.join(POM_FILE);
    let written = fs::create_dir(&draft).and_then(|()| fs::write(&file, pom));
    written.map_err(Error::io(format!("write {}", file.display())))?;
    let mut output = std::ffi::OsString::from("-DoutputDirectory=");
    output.push(&draft);
    let mut command = Command::new("mvn");
    command.args(["-q", "-B", "-f"]).arg(&file).arg("dependency:copy-dependencies").arg(output);
    match program::run("Maven", command, WITHIN).await {
        Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            return Err(Error::Missing { software: "Maven (mvn)", package: "maven" });
        }
        ran => ran?,
    }
    let moved = fs::rename(&draft, folder);
    moved.map_err(Error::io(format!("move {} to {}", draft.display(), folder.display())))
}

/// The kernel gives the lock back however its holder ends.
async fn lock(path: &Path) -> Result<File> {
    let failed = || Error::io(format!("lock {}", path.display()));
    let file = File::options().create(true).truncate(false).write(true).open(path).map_err(failed())?;
    let deadline = Instant::now() + WITHIN;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => sleep(TRY_EVERY).await,
            Err(TryLockError::WouldBlock) => {
                return Err(Error::Locked { within: WITHIN, lock: path.to_owned() });
            }
            Err(TryLockError::Error(err)) => return Err(failed()(err)),
        }
    }
}
