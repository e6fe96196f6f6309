//! Puts the files of grafana/ that `orderly up --observe` writes down into the command: whatever lies there is in it.

use std::{
    env,
    error::Error,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

/// Folders, not what is below them: tests of rules stay out.
const FOLDERS: [&str; 4] = ["rules", "dashboards", "provisioning/datasources", "provisioning/dashboards"];

fn main() -> Result<(), Box<dyn Error>> {
    let grafana = Path::new(&env::var("CARGO_MANIFEST_DIR")?).join("../grafana");
    println!("cargo::rerun-if-changed={}", grafana.display());
    let mut list = String::from("&[\n");
    for folder in FOLDERS {
        let mut files = Vec::new();
        for entry in fs::read_dir(grafana.join(folder))? {
            let path = entry?.path();
            if path.is_file()
                && path.extension().is_some_and(|is| is == "yml" || is == "yaml" || is == "json")
            {
                files.push(path);
            }
        }
        files.sort();
        for path in files {
            let name = path.file_name().unwrap_or_default();
            let name = Path::new(folder).join(name);
            writeln!(list, "    ({name:?}, include_str!({:?})),", fs::canonicalize(path)?)?;
        }
    }
    list.push_str("]\n");
    fs::write(PathBuf::from(env::var("OUT_DIR")?).join("grafana.rs"), list)?;
    Ok(())
}
