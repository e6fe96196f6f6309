//! `orderly up --detach`: starts the supervisor in the background, shows its progress, and returns once everything
//! is ready or could not be made so.

use std::{
    ffi::OsString,
    fs::File,
    io::{Read as _, Seek as _, SeekFrom},
    path::Path,
    process::{ExitCode, Stdio},
    time::Duration,
};

use anyhow::Context as _;
use nix::sys::signal::Signal;
use tokio::{process::Command, time::sleep};

use super::{Args, lock, signals, summary, taken};
use crate::{
    output,
    platform::{
        DataDir, Platform,
        process::Identity,
        record::{Phase, UpRecord},
    },
    status,
};

/// How often the supervisor's progress is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);

pub(super) async fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let data_dir = &args.data_dir;
    match lock::acquire(data_dir)? {
        // The supervisor takes it for itself.
        Some(lock) => drop(lock),
        None => return already_up(data_dir).await,
    }
    let (stop, _) = signals::watch()?;
    let path = data_dir.log("up");
    let mut log = Follow::open(&path)?;
    let mut supervisor = command(args, &path)?.spawn().context("could not start the supervisor")?;
    let identity = supervisor.id().and_then(Identity::of).context("the supervisor ended at once")?;
    loop {
        log.show()?;
        if let Some(status) = supervisor.try_wait()? {
            log.show()?;
            return Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        if UpRecord::read(data_dir)?.is_some_and(|up| up.supervisor == identity && up.phase == Phase::Ready) {
            log.show_until("ready").await?;
            return Ok(ExitCode::SUCCESS);
        }
        tokio::select! {
            () = sleep(LOOK_EVERY) => {}
            () = stop.cancelled(), if !stop.is_cancelled() => identity.signal(Signal::SIGTERM),
        }
    }
}

/// This command again, in the background, with its output in the log, and with the password of `--postgres` in the
/// environment: a supervisor's arguments can be read by everyone for as long as it lives.
fn command(args: &Args, log: &Path) -> anyhow::Result<Command> {
    let output = std::fs::OpenOptions::new().append(true).open(log)?;
    let mut command = Command::new(std::env::current_exe()?);
    command.args(without_postgres(std::env::args_os().skip(1))).arg("--background");
    command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
    if let Some(url) = &args.postgres {
        command.env("ORDERLY_POSTGRES", url.as_str());
    }
    Ok(command)
}

fn without_postgres(args: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut kept = Vec::new();
    let mut is_value = false;
    for arg in args {
        let (flag, attached) = (arg == "--postgres", arg.to_string_lossy().starts_with("--postgres="));
        if !is_value && !flag && !attached {
            kept.push(arg);
        }
        is_value = flag;
    }
    kept
}

async fn already_up(data_dir: &DataDir) -> anyhow::Result<ExitCode> {
    let report = status::report(data_dir).await;
    let Ok(status::Report { ready: true, supervisor_pid: Some(pid), .. }) = report else {
        return Err(taken(data_dir));
    };
    output::line(format!("already up (pid {pid})"));
    if rebuilt(pid) {
        output::line("an older build is running: `orderly down` and `orderly up` run the new one");
    }
    output::line(summary::render(Platform::load(data_dir)?.endpoints(), data_dir));
    output::line("ready");
    Ok(ExitCode::SUCCESS)
}

/// Whether the executable of a process was replaced since it was started.
fn rebuilt(pid: u32) -> bool {
    let target = std::fs::read_link(format!("/proc/{pid}/exe"));
    target.is_ok_and(|target| target.to_string_lossy().ends_with(" (deleted)"))
}

/// A log that is shown as it grows.
struct Follow {
    file: File,
    line: Vec<u8>,
    last: String,
}

impl Follow {
    /// Starts a new log, which only this run writes to.
    fn open(path: &Path) -> anyhow::Result<Self> {
        let open = || -> std::io::Result<File> {
            std::fs::create_dir_all(path.parent().unwrap_or(path))?;
            if path.exists() {
                std::fs::rename(path, path.with_extension("log.1"))?;
            }
            let mut file = std::fs::OpenOptions::new().create(true).append(true).read(true).open(path)?;
            file.seek(SeekFrom::Start(0))?;
            Ok(file)
        };
        let file = open().with_context(|| format!("could not open {}", path.display()))?;
        Ok(Self { file, line: Vec::new(), last: String::new() })
    }

    /// Prints the whole lines that were added.
    fn show(&mut self) -> anyhow::Result<()> {
        self.file.read_to_end(&mut self.line)?;
        while let Some(end) = self.line.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.line.drain(..=end).collect();
            self.last = String::from_utf8_lossy(&line[..end]).into_owned();
            output::line(&self.last);
        }
        Ok(())
    }

    /// Prints until a line that the supervisor is about to write.
    async fn show_until(&mut self, line: &str) -> anyhow::Result<()> {
        for _ in 0..20 {
            self.show()?;
            if self.last == line {
                break;
            }
            sleep(LOOK_EVERY).await;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_superuser_s_password_leaves_the_arguments() {
        let line = [
            "up",
            "--postgres",
            "postgres://a:b@c",
            "--detach",
            "--postgres=postgres://a:b@c",
            "--kafka",
            "k",
        ];
        let kept = without_postgres(line.into_iter().map(OsString::from));
        assert_eq!(kept, ["up", "--detach", "--kafka", "k"]);
    }
}
