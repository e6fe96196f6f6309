//! Grafana, where one is installed: its data source and dashboards come from files, and nobody signs in.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};

use super::{files, on_path};
use crate::{platform::Platform, supervisor::program::Program};

/// Where packages put what the executable needs beside it.
const PACKAGED: &str = "/usr/share/grafana";

/// The addresses and paths of a Grafana in a machine of its own, as grafana/provisioning has them.
const PROMETHEUS: &str = "http://127.0.0.1:9090";
const DASHBOARDS: &str = "/var/lib/grafana/dashboards/orderly";

/// A Grafana that is installed.
#[derive(Clone, Debug)]
pub(super) struct Grafana {
    executable: PathBuf,
    home: PathBuf,
}

/// The Grafana of a folder, or else the one on PATH, if any.
pub(super) fn find(home: Option<&Path>) -> anyhow::Result<Option<Grafana>> {
    if let Some(home) = home {
        let home = std::path::absolute(home)?;
        let executable = ["bin/grafana", "bin/grafana-server"].map(|name| home.join(name));
        let Some(executable) = executable.into_iter().find(|file| file.is_file()) else {
            bail!("--grafana-home {} holds no bin/grafana", home.display());
        };
        return Ok(Some(Grafana { executable, home }));
    }
    let Some(executable) = on_path("grafana").or_else(|| on_path("grafana-server")) else { return Ok(None) };
    let beside = fs::canonicalize(&executable)?.ancestors().nth(2).map(PathBuf::from);
    let homes = beside.into_iter().chain([PACKAGED.into()]);
    let home = homes.into_iter().find(|home| home.join("conf/defaults.ini").is_file());
    Ok(home.map(|home| Grafana { executable, home }))
}

impl Grafana {
    /// Writes the configuration, and says how to start it.
    pub(super) fn program(
        &self,
        platform: &Platform,
        prometheus: SocketAddr,
        address: SocketAddr,
    ) -> anyhow::Result<Program> {
        let folder = platform.data_dir().path().join("grafana");
        let (url, dashboards) = (format!("http://{prometheus}"), folder.join("dashboards"));
        files::write("dashboards", &dashboards, &[])?;
        let instead = [(PROMETHEUS, url.as_str()), (DASHBOARDS, &*dashboards.to_string_lossy())];
        for part in ["provisioning/datasources", "provisioning/dashboards"] {
            files::write(part, &folder.join(part), &instead)?;
        }
        let config = folder.join("grafana.ini");
        fs::write(&config, render(&folder, address))
            .with_context(|| format!("could not write {}", config.display()))?;
        // From version 10 on there is one executable with subcommands.
        let is_new = self.executable.file_name().is_some_and(|name| name == "grafana");
        let mut args: Vec<std::ffi::OsString> = Vec::new();
        args.extend(is_new.then(|| "server".into()));
        args.extend(["--homepath".into(), self.home.clone().into(), "--config".into(), config.into()]);
        Ok(Program::Command { executable: self.executable.clone(), args, env: Vec::new() })
    }
}

/// On loopback, whoever asks may look, and nobody may change anything.
fn render(folder: &Path, address: SocketAddr) -> String {
    let path = |name: &str| folder.join(name).display().to_string();
    format!(
        "[server]\nhttp_addr = {ip}\nhttp_port = {port}\n\
         [paths]\ndata = {data}\nlogs = {data}/log\nplugins = {data}/plugins\nprovisioning = {provisioning}\n\
         [auth.anonymous]\nenabled = true\norg_role = Viewer\n\
         [auth]\ndisable_login_form = true\n\
         [security]\ndisable_initial_admin_creation = true\n\
         [analytics]\nreporting_enabled = false\ncheck_for_updates = false\ncheck_for_plugin_updates = false\n\
         [news]\nnews_feed_enabled = false\n\
         [dashboards]\ndefault_home_dashboard_path = {home}\n",
        ip = address.ip(),
        port = address.port(),
        data = path("data"),
        provisioning = path("provisioning"),
        home = path("dashboards/overview.json"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_provisioning_names_what_is_put_in_place() {
        for (folder, text) in
            [("provisioning/datasources/", PROMETHEUS), ("provisioning/dashboards/", DASHBOARDS)]
        {
            let is = |(path, file): &&(&str, &str)| path.starts_with(folder) && file.contains(text);
            assert!(files::ALL.iter().any(|file| is(&file)), "{text} is in no file of {folder}");
        }
        assert!(files::ALL.iter().any(|(path, _)| *path == "dashboards/overview.json"), "the home page");
    }

    #[test]
    fn a_folder_that_holds_no_grafana_is_refused() -> anyhow::Result<()> {
        let dir = tempfile::tempdir()?;
        assert!(find(Some(dir.path())).is_err());
        fs::create_dir(dir.path().join("bin"))?;
        fs::write(dir.path().join("bin/grafana"), "")?;
        let found = find(Some(dir.path()))?.map(|grafana| grafana.executable);
        assert_eq!(found, Some(dir.path().join("bin/grafana")));
        Ok(())
    }
}
