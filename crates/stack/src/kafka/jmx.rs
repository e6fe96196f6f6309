//! The broker's own metrics, by Prometheus' JMX exporter: an agent in its process, which serves them over HTTP.

use std::{
    ffi::OsString,
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use super::install::install_pom;
use crate::{Error, Launch, Result};

/// What is installed.
const POM: &str = include_str!("../../kafka/jmx-exporter/pom.xml");

/// Lets a broker that is prepared show its metrics on an address; `rules` say which, in the agent's own format. The
/// agent is installed beside Kafka's libraries where it is not yet.
///
/// # Errors
/// When it cannot be installed, or the rules cannot be written.
pub async fn observe(launch: &mut Launch, libs: &Path, address: SocketAddr, rules: &str) -> Result<()> {
    let folder = std::path::absolute(libs).map_err(Error::io("find the current folder"))?;
    let folder = folder.with_file_name("jmx-exporter");
    install_pom(POM, &folder).await?;
    let jar = jar(&folder).map_err(Error::io(format!("find the JMX exporter in {}", folder.display())))?;
    let config = launch.directory.join("jmx-exporter.yml");
    fs::write(&config, rules).map_err(Error::io(format!("write {}", config.display())))?;
    let mut agent = OsString::from("-javaagent:");
    agent.push(jar);
    agent.push(format!("={address}:"));
    agent.push(config);
    // Before the class to run.
    launch.args.insert(0, agent);
    Ok(())
}

fn jar(folder: &Path) -> io::Result<PathBuf> {
    let files = fs::read_dir(folder)?.collect::<io::Result<Vec<_>>>()?;
    let jar =
        files.into_iter().map(|file| file.path()).find(|path| path.extension().is_some_and(|is| is == "jar"));
    jar.ok_or_else(|| io::ErrorKind::NotFound.into())
}
