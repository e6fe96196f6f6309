//! `orderly up` as its user meets it: the real command, its own PostgreSQL and Kafka, real signals.

mod home;
mod load;
mod observed;
mod prometheus;
#[path = "../queries/mod.rs"]
mod queries;

use std::{io::Write as _, process::Stdio};

use anyhow::Context as _;
use cli::platform::record::{Phase, ProcessState};
use nix::sys::signal::Signal;

use crate::{
    home::{Home, alive, interrupt},
    load::Load,
};

#[tokio::test]
async fn what_is_killed_under_load_comes_back_and_the_audit_finds_nothing() -> anyhow::Result<()> {
    let home = Home::new()?;
    // A reader that never reads: every line that is printed meets a full pipe.
    let (_reader, mut pipe) = std::io::pipe()?;
    pipe.write_all(&[b'x'; 65_536])?;
    let mut up = home.up().stdout(pipe.try_clone()?).stderr(pipe).spawn()?;
    let record = home.ready(&mut up).await?;

    let (code, said) = home.run(&mut home.up()).await?;
    assert_eq!(code, Some(1));
    assert!(said.contains(&format!("another `orderly up` (pid {})", record.supervisor.pid)), "{said}");

    let mut load = Load::start(&home, &["--rate", "20"])?;
    for process in &record.processes {
        let name = &process.name;
        load.accepted(20).await?;
        process.identity.context("it runs")?.signal(Signal::SIGKILL);
        let back = format!("{name} is back");
        let back = home.when(&back, |record| {
            let again = record.processes.iter().find(|process| process.name == *name);
            again.is_some_and(|again| again.restarts > 0 && again.state == ProcessState::Running)
        });
        load.during(back).await?;
    }
    load.accepted(20).await?;
    let figures = load.stop().await?;
    let offered = &figures["orders"]["offered"];
    assert!(offered.as_u64() > Some(20 * record.processes.len() as u64), "{figures}");
    assert_eq!(&figures["orders"]["accepted"], offered, "{figures}");
    assert_eq!(&figures["final"]["by_status"]["CONFIRMED"], offered, "{figures}");
    assert!(figures["errors"]["UNAVAILABLE"].as_u64() > Some(0), "nothing was felt: {figures}");

    let (code, said) = home.run(&mut home.orderly("verify")).await?;
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = home.run(&mut home.orderly("status")).await?;
    assert_eq!(code, Some(0), "{said}");
    assert!(interrupt(&mut up).await?.success());
    let record = home.record()?.context("the record stays")?;
    assert_eq!((record.phase, alive(&record)), (Phase::Stopped, Vec::new()));
    Ok(())
}

#[tokio::test]
async fn ctrl_c_at_any_moment_of_the_start_leaves_nothing_running() -> anyhow::Result<()> {
    let home = Home::new()?;
    for moment in [None, Some("postgres"), Some("kafka"), Some("order")] {
        let mut up = home.up().stdout(Stdio::null()).spawn()?;
        let pid = up.id().context("it runs")?;
        home.when("it has come so far", |record| {
            let started = |name| {
                let found = record.processes.iter().find(|process| process.name == name);
                record.phase == Phase::Starting && found.is_some_and(|found| found.identity.is_some())
            };
            record.supervisor.pid == pid && moment.is_none_or(started)
        })
        .await?;
        assert!(interrupt(&mut up).await?.success(), "{moment:?}");
        let record = home.record()?.context("the record stays")?;
        assert_eq!((record.phase, alive(&record)), (Phase::Stopped, Vec::new()), "{moment:?}");
    }
    let (code, said) = home.run(&mut home.orderly("clean")).await?;
    assert_eq!(code, Some(0), "{said}");
    assert!(!home.data_dir().path().exists());
    Ok(())
}
