//! PostgreSQL from Debian's package: its data made once, its settings given at each start.

use std::{
    ffi::OsString,
    fs, io,
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use sha2::{Digest as _, Sha256};
use sqlx::{ConnectOptions as _, Connection as _, postgres::PgConnectOptions};
use tokio::time::{Instant, sleep, timeout};

use crate::{
    Error, Launch, Result, StopSignal,
    account::{Account, make_enterable},
    program,
};

/// Where Debian keeps the executables of each major version.
const VERSIONS: &str = "/usr/lib/postgresql";
/// The oldest version that is used.
const OLDEST: u32 = 15;
/// Below it lies the data of checkouts that the `postgres` user cannot enter.
const SYSTEM: &str = "/var/lib/orderly";
/// How long `initdb` may take.
const INITDB_WITHIN: Duration = Duration::from_secs(120);
/// How often a server that starts is asked, and how long one answer may take.
const ASK_EVERY: Duration = Duration::from_millis(50);
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the children of a server that was killed may take to notice.
const ORPHANS_WITHIN: Duration = Duration::from_secs(10);
/// What every server is started with, before [`Config::settings`].
const SETTINGS: [(&str, &str); 7] = [
    ("listen_addresses", "127.0.0.1"),
    ("unix_socket_directories", ""),
    ("max_connections", "300"),
    ("shared_buffers", "256MB"),
    ("log_destination", "stderr"),
    ("logging_collector", "off"),
    // Compiling a statement of many small ones costs more than it ever saves.
    ("jit", "off"),
];

/// A PostgreSQL server with the superuser `postgres`.
#[derive(Clone)]
pub struct Config {
    /// Its port on 127.0.0.1.
    pub port: u16,
    /// Its data, where [`data_directory`] says.
    pub data: PathBuf,
    /// The superuser's password; it counts when the data is made and is not changed afterwards.
    pub superuser_password: String,
    /// Settings as in `postgresql.conf`; they win over those of this crate.
    pub settings: Vec<(String, String)>,
}

/// Where the data is to lie: where it is wanted, unless root asks and the `postgres` user cannot enter that folder.
/// Then `/var/lib/orderly/<hash of the wanted path>`. Data that exists is found again in either place.
///
/// # Errors
/// When root asks and PostgreSQL is not installed.
pub fn data_directory(wanted: &Path) -> Result<PathBuf> {
    data_directory_in(wanted, Path::new(SYSTEM))
}

/// Makes the data when there is none, and says how to start the server.
///
/// # Errors
/// When PostgreSQL is not installed, a server still uses the data, or it cannot be made.
pub async fn prepare(config: &Config) -> Result<Launch> {
    let (version, bin) = newest(Path::new(VERSIONS))?;
    let account = Account::of_postgres()?;
    let data = std::path::absolute(&config.data).map_err(Error::io("find the current folder"))?;
    let parent = data.parent().unwrap_or(&data);
    make_enterable(parent)?;
    if let Some(account) = account {
        account.enters(parent)?;
    }
    match fs::read_to_string(data.join("PG_VERSION")) {
        Ok(found) if found.trim() == version.to_string() => refuse_live(&data).await?,
        Ok(found) => {
            let (found, installed) = (found.trim().to_owned(), version.to_string());
            return Err(Error::OtherVersion { data, found, installed });
        }
        Err(_) => initdb(&bin, account, &data, &config.superuser_password).await?,
    }
    let port = ("port".to_owned(), config.port.to_string());
    let own = SETTINGS.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let settings = own.iter().chain([&port]).chain(&config.settings);
    let settings = settings.flat_map(|(name, value)| ["-c".to_owned(), format!("{name}={value}")]);
    Ok(Launch {
        name: "PostgreSQL",
        executable: bin.join("postgres"),
        args: [OsString::from("-D"), data.clone().into()]
            .into_iter()
            .chain(settings.map(Into::into))
            .collect(),
        env: Vec::new(),
        user: account.map(Account::ids),
        directory: data,
        stop_signal: StopSignal::Interrupt,
    })
}

/// Waits until the server accepts this role.
///
/// # Errors
/// [`Error::PostgresRefused`] at once when it does not, [`Error::PostgresSilent`] when it does not answer in time.
pub async fn ready(url: &str, within: Duration) -> Result<()> {
    let options: PgConnectOptions = url.parse().map_err(|source| Error::PostgresUrl { source })?;
    let options = options.disable_statement_logging();
    let address = || format!("{}:{}", options.get_host(), options.get_port());
    let deadline = Instant::now() + within;
    loop {
        let answer = timeout(PATIENCE, options.connect()).await;
        let answer = answer.unwrap_or_else(|_| Err(sqlx::Error::Io(io::ErrorKind::TimedOut.into())));
        match answer {
            Ok(connection) => {
                // It has answered; how the connection ends is of no interest.
                let _ = connection.close().await;
                return Ok(());
            }
            Err(source) if refuses(&source) => {
                return Err(Error::PostgresRefused { address: address(), source });
            }
            Err(source) if Instant::now() >= deadline => {
                return Err(Error::PostgresSilent { address: address(), within, source });
            }
            Err(_) => sleep(ASK_EVERY).await,
        }
    }
}

/// The superuser's URL of the database `postgres`. The password is put in as it is, so it must need no escapes.
#[must_use]
pub fn url(config: &Config) -> String {
    format!("postgres://postgres:{}@127.0.0.1:{}/postgres", config.superuser_password, config.port)
}

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { port, data, superuser_password: _, settings } = self;
        f.debug_struct("Config").field("port", port).field("data", data).field("settings", settings).finish()
    }
}

fn data_directory_in(wanted: &Path, system: &Path) -> Result<PathBuf> {
    let wanted = std::path::absolute(wanted).map_err(Error::io("find the current folder"))?;
    let Some(account) = Account::of_postgres()? else { return Ok(wanted) };
    let digest = Sha256::digest(wanted.as_os_str().as_encoded_bytes());
    let system = system.join(digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect::<String>());
    let parent = wanted.parent().unwrap_or(&wanted);
    let stays = wanted.join("PG_VERSION").exists() || (account.enters(parent).is_ok() && !system.exists());
    Ok(if stays { wanted } else { system })
}

/// The newest version that is installed, and its folder of executables.
fn newest(versions: &Path) -> Result<(u32, PathBuf)> {
    let folders = fs::read_dir(versions).into_iter().flatten().flatten();
    folders
        .filter_map(|folder| Some((folder.file_name().to_str()?.parse().ok()?, folder.path().join("bin"))))
        .filter(|(version, bin)| *version >= OLDEST && bin.join("postgres").is_file())
        .max()
        .ok_or(Error::Missing { software: "PostgreSQL 15 or later", package: "postgresql" })
}

/// Refuses data that a server still uses. `postmaster.pid` may be older than the machine's last start, so the process
/// must also run in the data, as PostgreSQL does. The children of a server that was killed are waited for: each leads a
/// session of its own, notices within moments that it is an orphan, and until then holds the shared memory.
async fn refuse_live(data: &Path) -> Result<()> {
    let file = fs::read_to_string(data.join("postmaster.pid")).unwrap_or_default();
    let Some(server) = file.lines().next().and_then(|line| line.trim().parse::<u32>().ok()) else {
        return Ok(());
    };
    let deadline = Instant::now() + ORPHANS_WITHIN;
    loop {
        let users = processes_in(data);
        let refused = if users.contains(&server) { Some(server) } else { users.first().copied() };
        match refused {
            None => return Ok(()),
            Some(pid) if pid == server || Instant::now() >= deadline => {
                return Err(Error::InUse { pid, data: data.to_owned() });
            }
            Some(_) => sleep(ASK_EVERY).await,
        }
    }
}

/// The processes whose working directory this is.
fn processes_in(directory: &Path) -> Vec<u32> {
    let Ok(directory) = directory.canonicalize() else { return Vec::new() };
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter(|process| fs::read_link(process.path().join("cwd")).is_ok_and(|cwd| cwd == directory))
        .filter_map(|process| process.file_name().to_str()?.parse().ok())
        .collect()
}

/// Makes the data beside its place and moves it there at last: an `initdb` that was interrupted leaves nothing that
/// looks like data.
async fn initdb(bin: &Path, account: Option<Account>, data: &Path, password: &str) -> Result<()> {
    let parent = data.parent().unwrap_or(data);
    let draft = data.with_extension("new");
    let failed = || Error::io(format!("make {}", draft.display()));
    if draft.exists() {
        fs::remove_dir_all(&draft).map_err(Error::io(format!("delete {}", draft.display())))?;
    }
    fs::create_dir(&draft).map_err(failed())?;
    fs::set_permissions(&draft, fs::Permissions::from_mode(0o700)).map_err(failed())?;
    // Mode 0600, and gone when it is dropped.
    let mut secret = tempfile::NamedTempFile::new_in(parent).map_err(Error::io("make a password file"))?;
    writeln!(secret, "{password}").map_err(Error::io("write a password file"))?;
    let mut command = tokio::process::Command::new(bin.join("initdb"));
    command.args(["--auth=scram-sha-256", "--username=postgres", "--encoding=UTF8", "--locale=C.UTF-8"]);
    command.arg("--no-instructions").arg("--pwfile").arg(secret.path()).arg("--pgdata").arg(&draft);
    command.current_dir(parent);
    if let Some(account) = account {
        account.own(&draft)?;
        account.own(secret.path())?;
        let (uid, gid) = account.ids();
        command.uid(uid).gid(gid);
    }
    program::run("initdb", command, INITDB_WITHIN).await?;
    // Fails for a folder that is not empty, which is not ours to replace.
    fs::rename(&draft, data).map_err(Error::io(format!("move {} to {}", draft.display(), data.display())))
}

/// Whether another attempt would be refused as well: wrong password or role (28), no such database (3D). Anything else
/// is a server that starts, or none yet.
fn refuses(err: &sqlx::Error) -> bool {
    let code = err.as_database_error().and_then(|err| err.code());
    code.is_some_and(|code| code.starts_with("28") || code == "3D000")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_leaves_a_folder_that_the_server_cannot_enter_and_is_found_again() -> anyhow::Result<()> {
        if Account::of_postgres()?.is_none() {
            return Ok(());
        }
        let (checkout, system) = (tempfile::tempdir()?, tempfile::tempdir()?);
        let wanted = checkout.path().join("postgres");
        let mode = |mode| fs::set_permissions(checkout.path(), fs::Permissions::from_mode(mode));
        mode(0o700)?;
        let elsewhere = data_directory_in(&wanted, system.path())?;
        assert!(elsewhere.starts_with(system.path()), "{}", elsewhere.display());
        mode(0o755)?;
        assert_eq!(data_directory_in(&wanted, system.path())?, wanted);
        fs::create_dir(&elsewhere)?;
        assert_eq!(data_directory_in(&wanted, system.path())?, elsewhere);
        Ok(())
    }

    #[test]
    fn the_newest_version_wins_by_number() -> anyhow::Result<()> {
        let versions = tempfile::tempdir()?;
        assert!(newest(versions.path()).expect_err("none is there").to_string().contains("`postgresql`"));
        for version in ["9", "14", "15", "100", "common"] {
            let bin = versions.path().join(version).join("bin");
            fs::create_dir_all(&bin)?;
            fs::write(bin.join("postgres"), "")?;
        }
        assert_eq!(newest(versions.path())?.0, 100);
        Ok(())
    }

    #[test]
    fn the_password_is_not_shown() {
        let config =
            Config { port: 1, data: "d".into(), superuser_password: "hush".into(), settings: vec![] };
        assert!(!format!("{config:?}").contains("hush"));
    }
}
