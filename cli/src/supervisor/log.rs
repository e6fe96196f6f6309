//! The log file of a process: written by the process itself, kept small by the supervisor.

use std::{
    fs::{self, File},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    path::Path,
};

use anyhow::Context as _;

/// A log that has grown beyond this is put aside when its process is started again.
const ROTATE_AT: u64 = 10 << 20;
/// A log that has grown beyond this is emptied under the running process.
const EMPTY_AT: u64 = 50 << 20;
/// How much of the end of a log [`tail`] looks at.
const TAIL: u64 = 16 << 10;

/// Opens the log for a new process. The one of an earlier platform, or one that has grown large, becomes `<log>.1`.
pub(crate) fn open(path: &Path, first: bool) -> anyhow::Result<File> {
    let open = || -> io::Result<File> {
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir)?;
        }
        let len = fs::metadata(path).map_or(0, |metadata| metadata.len());
        if (first && len > 0) || len > ROTATE_AT {
            fs::rename(path, path.with_extension("log.1"))?;
        }
        fs::OpenOptions::new().create(true).append(true).open(path)
    };
    open().with_context(|| format!("could not open the log {}", path.display()))
}

/// Empties a log that has grown beyond its bound. The process appends, so its next line comes first.
pub(super) fn bound(path: &Path) {
    if fs::metadata(path).is_ok_and(|metadata| metadata.len() > EMPTY_AT) {
        let emptied = fs::OpenOptions::new().append(true).open(path).and_then(|mut file| {
            file.set_len(0)?;
            writeln!(file, "(earlier lines were dropped: the log had reached {} MiB)", EMPTY_AT >> 20)
        });
        if let Err(err) = emptied {
            tracing::warn!(error = %err, log = %path.display(), "could not empty a large log");
        }
    }
}

/// The last `lines` lines of a log, as far as they can be read.
#[must_use]
pub fn tail(path: &Path, lines: usize) -> String {
    let read = || -> io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        let len = file.metadata()?.len();
        file.seek(SeekFrom::Start(len.saturating_sub(TAIL)))?;
        let mut bytes = Vec::new();
        file.take(TAIL).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_platform_puts_the_old_log_aside_and_a_restart_appends() -> anyhow::Result<()> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("logs/order.log");
        writeln!(open(&path, true)?, "one")?;
        writeln!(open(&path, false)?, "two")?;
        assert_eq!(tail(&path, 9), "one\ntwo");
        writeln!(open(&path, true)?, "three")?;
        assert_eq!(tail(&path, 9), "three");
        assert_eq!(tail(&path.with_extension("log.1"), 1), "two");
        Ok(())
    }

    #[test]
    fn a_huge_log_is_emptied_under_its_writer() -> anyhow::Result<()> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("order.log");
        let mut writer = open(&path, true)?;
        writer.set_len(EMPTY_AT + 1)?;
        bound(&path);
        writeln!(writer, "after")?;
        assert_eq!(tail(&path, 9), "(earlier lines were dropped: the log had reached 50 MiB)\nafter");
        Ok(())
    }
}
