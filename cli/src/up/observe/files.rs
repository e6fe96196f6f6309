//! The files of grafana/ as they were when this command was built.

use std::{fs, path::Path};

use anyhow::Context as _;

/// Path below grafana/, and text.
pub(super) const ALL: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/grafana.rs"));

/// Writes those of one folder into another, which holds nothing else afterwards, with other addresses and paths in
/// the place of theirs.
pub(super) fn write(from: &str, to: &Path, instead: &[(&str, &str)]) -> anyhow::Result<()> {
    let write = || -> std::io::Result<()> {
        if to.exists() {
            fs::remove_dir_all(to)?;
        }
        fs::create_dir_all(to)?;
        for (path, text) in ALL {
            let path = Path::new(path);
            if let (true, Some(name)) = (path.parent() == Some(Path::new(from)), path.file_name()) {
                let text = instead.iter().fold((*text).to_owned(), |text, (old, new)| text.replace(old, new));
                fs::write(to.join(name), text)?;
            }
        }
        Ok(())
    };
    write().with_context(|| format!("could not write {}", to.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_folder_is_written_without_what_is_below_it() -> anyhow::Result<()> {
        let dir = tempfile::tempdir()?;
        let to = dir.path().join("rules");
        fs::create_dir(&to)?;
        fs::write(to.join("old.yml"), "")?;
        write("rules", &to, &[("ProcessDown", "Renamed")])?;
        assert!(!to.join("old.yml").exists() && to.join("slo.yml").is_file() && !to.join("tests").exists());
        assert!(fs::read_to_string(to.join("platform.yml"))?.contains("alert: Renamed"));
        Ok(())
    }
}
