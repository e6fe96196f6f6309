//! One supervisor a data directory: an advisory lock on `<data>/up.lock`, which the kernel gives back however its
//! holder ends. The file holds the holder's pid, for messages.

use std::{
    fs::{self, File, TryLockError},
    io::{Seek as _, Write as _},
};

use anyhow::Context as _;

use crate::platform::DataDir;

/// The lock, held until it is dropped.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "the lock lives as long as the open file")] File);

/// Takes the lock; `None` when another process holds it.
///
/// # Errors
/// When the data directory cannot be created or written.
pub fn acquire(data_dir: &DataDir) -> anyhow::Result<Option<Lock>> {
    let path = data_dir.lock();
    let acquire = || -> anyhow::Result<Option<Lock>> {
        fs::create_dir_all(data_dir.path())?;
        let mut file =
            fs::OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(err)) => return Err(err.into()),
        }
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "{}", std::process::id())?;
        Ok(Some(Lock(file)))
    };
    acquire().with_context(|| format!("could not lock {}", path.display()))
}

/// The pid that the holder wrote down; a moment after the lock was taken it may still be another's.
#[must_use]
pub fn holder(data_dir: &DataDir) -> Option<u32> {
    fs::read_to_string(data_dir.lock()).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_refused_until_the_first_lets_go() -> anyhow::Result<()> {
        let dir = tempfile::tempdir()?;
        let data_dir = DataDir::from(dir.path());
        let first = acquire(&data_dir)?;
        assert!(first.is_some() && acquire(&data_dir)?.is_none());
        assert_eq!(holder(&data_dir), Some(std::process::id()));
        drop(first);
        assert!(acquire(&data_dir)?.is_some());
        Ok(())
    }
}
