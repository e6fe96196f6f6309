//! What `orderly up`, `down` and `status` say when there is nothing to start, or something in the way.

use std::{net::TcpListener, path::Path, process::Output};

use anyhow::Context as _;
use clap::Parser as _;
use cli::{
    credentials::Credentials,
    platform::{
        DataDir,
        process::Identity,
        record::{Phase, Probe, ProcessRecord, ProcessState, UpRecord},
    },
    up::{lock, ports::Ports},
};
use tokio::process::Command;

#[derive(clap::Parser)]
struct Line {
    #[command(flatten)]
    ports: Ports,
}

async fn orderly(data_dir: &Path, args: &[&str]) -> anyhow::Result<Output> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_orderly"));
    command.arg("--data-dir").arg(data_dir).args(args).kill_on_drop(true);
    Ok(command.output().await?)
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test]
async fn the_second_up_names_the_first() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let _first = lock::acquire(&DataDir::from(dir.path()))?.context("nobody holds it")?;
    for args in [&["up"][..], &["up", "--detach"]] {
        let second = orderly(dir.path(), args).await?;
        assert_eq!(second.status.code(), Some(1));
        let expected = format!("another `orderly up` (pid {})", std::process::id());
        assert!(stderr(&second).contains(&expected), "{}", stderr(&second));
    }
    Ok(())
}

#[tokio::test]
async fn a_taken_port_is_found_before_anything_is_started() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let bin_dir = tempfile::tempdir()?;
    for name in ["orderly", "order", "inventory", "billing", "notification", "outbox-relay"] {
        std::fs::write(bin_dir.path().join(name), "")?;
    }
    let held = TcpListener::bind("127.0.0.1:0")?;
    let port = held.local_addr()?.port().to_string();
    let bin = bin_dir.path().to_string_lossy();
    let args = ["up", "--bin-dir", &bin, "--port-order", &port];
    for detach in [None, Some("--detach")] {
        let args: Vec<&str> = args.into_iter().chain(detach).collect();
        let refused = orderly(dir.path(), &args).await?;
        assert_eq!(refused.status.code(), Some(1));
        let said = stderr(&refused) + &String::from_utf8_lossy(&refused.stdout);
        let holder = format!("port {port} is held by pid {}", std::process::id());
        assert!(said.contains(&holder) && said.contains("--port-order"), "{said}");
    }
    assert!(!dir.path().join("up.json").exists());
    Ok(())
}

#[tokio::test]
async fn missing_executables_are_named() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let bin = dir.path().to_string_lossy();
    let refused = orderly(dir.path(), &["up", "--bin-dir", &bin]).await?;
    assert!(
        stderr(&refused).contains("has no orderly, outbox-relay, order, inventory, billing, notification")
    );
    Ok(())
}

#[tokio::test]
async fn missing_observers_are_named_before_anything_is_started() -> anyhow::Result<()> {
    let (dir, bin_dir) = (tempfile::tempdir()?, tempfile::tempdir()?);
    for name in ["orderly", "order", "inventory", "billing", "notification", "outbox-relay"] {
        std::fs::write(bin_dir.path().join(name), "")?;
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_orderly"));
    command.arg("--data-dir").arg(dir.path()).args(["up", "--observe", "--bin-dir"]).arg(bin_dir.path());
    let refused = command.env("PATH", dir.path()).kill_on_drop(true).output().await?;
    assert_eq!(refused.status.code(), Some(1));
    let said = stderr(&refused);
    assert!(said.contains("apt-get install prometheus prometheus-postgres-exporter"), "{said}");
    assert!(!dir.path().join("up.json").exists());
    Ok(())
}

#[tokio::test]
async fn down_and_clean_are_content_when_nothing_runs_and_leave_other_folders_alone() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let absent = dir.path().join("absent");
    for command in ["down", "clean"] {
        assert!(orderly(&absent, &[command]).await?.status.success());
        let refused = orderly(dir.path(), &[command]).await?;
        assert_eq!(refused.status.code(), Some(1));
        assert!(stderr(&refused).contains("is no platform's data directory"), "{}", stderr(&refused));
    }
    let data_dir = dir.path().join("data");
    drop(lock::acquire(&DataDir::from(data_dir.as_path()))?);
    assert!(orderly(&data_dir, &["clean"]).await?.status.success());
    assert!(dir.path().exists() && !data_dir.exists());
    Ok(())
}

#[tokio::test]
async fn status_says_what_to_do_when_no_platform_was_started() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let output = orderly(dir.path(), &["status"]).await?;
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("start one with `make up`"), "{}", stderr(&output));
    Ok(())
}

/// Load generators and tests read pids and restarts from here.
#[tokio::test]
async fn status_json_keeps_its_shape() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let data_dir = DataDir::from(dir.path());
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?.to_string();
    let me = Identity::current().context("/proc is mounted")?;
    let process = |name: &str, identity| ProcessRecord {
        name: name.to_owned(),
        state: ProcessState::Running,
        identity,
        restarts: 1,
        last_exit: Some("exit code 3".to_owned()),
        address: address.clone(),
        probe: Probe::Connect(address.clone()),
        log: "order.log".into(),
    };
    let dead = Identity { start_time: me.start_time + 1, ..me };
    let record = UpRecord {
        supervisor: me,
        phase: Phase::Ready,
        endpoints: Line::try_parse_from(["up"])?.ports.endpoints(None, None, String::new()),
        directories: [].into(),
        processes: vec![process("order", Some(me)), process("billing", Some(dead))],
    };
    record.write(&data_dir)?;
    Credentials::ensure(&dir.path().join("credentials.json"), ["orderly_audit"])?;
    let output = orderly(dir.path(), &["status", "--json"]).await?;
    assert_eq!(output.status.code(), Some(1), "billing is gone");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let keys = |value: &serde_json::Value| {
        value.as_object().map(|object| object.keys().cloned().collect::<Vec<_>>().join(" "))
    };
    insta::assert_snapshot!(
        keys(&report).unwrap_or_default(),
        @"data_dir directories phase processes ready supervisor_pid"
    );
    let order = &report["processes"][0];
    insta::assert_snapshot!(
        keys(order).unwrap_or_default(),
        @"address cpu_seconds last_exit log name pid ready restarts rss_bytes state uptime_seconds"
    );
    assert_eq!((&order["ready"], &order["pid"]), (&true.into(), &me.pid.into()));
    assert!(order["rss_bytes"].as_u64() > Some(0) && order["uptime_seconds"].as_f64() > Some(0.0));
    let billing = &report["processes"][1];
    assert_eq!((&billing["state"], &billing["ready"]), (&"gone".into(), &false.into()));
    assert!(billing["pid"].is_null() && billing["rss_bytes"].is_null());
    Ok(())
}
