//! The real process.

use std::process::{Child, Command, Stdio};

use crate::scene::Scene;

/// `notification work`. Dropping it kills it.
pub struct Worker(Child);

impl Worker {
    /// With a log that says nothing.
    pub fn start(scene: &Scene, output: impl Into<Stdio>) -> anyhow::Result<Self> {
        Self::start_with(scene, output, Stdio::null(), &[("RUST_LOG", "off")])
    }

    /// With these environment variables.
    pub fn start_with(
        scene: &Scene,
        output: impl Into<Stdio>,
        errors: impl Into<Stdio>,
        variables: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_notification"));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("ORDERLY_") {
                command.env_remove(name);
            }
        }
        command
            .arg("work")
            .env("ORDERLY_DATABASE_URL", scene.database.app_url())
            .env("ORDERLY_ADMIN", "127.0.0.1:0")
            // Nobody's port: what is to be delivered is in the database already.
            .env("ORDERLY_KAFKA", "127.0.0.1:1")
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors);
        Ok(Self(command.spawn()?))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
