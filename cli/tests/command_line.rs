//! What a user of `orderly` sees before anything runs.

use clap::{CommandFactory as _, Parser as _};
use cli::Cli;

#[test]
fn the_arguments_are_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn the_data_directory_may_stand_before_and_after_the_command() -> anyhow::Result<()> {
    for line in [["orderly", "--data-dir", "/tmp/x", "status"], ["orderly", "status", "--data-dir", "/tmp/x"]]
    {
        let shown = format!("{:?}", Cli::try_parse_from(line)?);
        // Once for the command line, once for the command that uses it.
        assert_eq!(shown.matches("/tmp/x").count(), 2, "{shown}");
    }
    Ok(())
}

#[test]
fn help_teaches_the_commands() {
    let help = Cli::command().term_width(100).render_help().to_string();
    insta::assert_snapshot!(help, @r#"
    Orderly, an event-driven order platform: start it on this machine, put load on it, audit what it
    promises

    Usage: orderly [OPTIONS] <COMMAND>

    Commands:
      up        Start PostgreSQL, Kafka and every service on this machine; Ctrl-C stops it all
      down      Stop a platform that was started with `up --detach`
      clean     Stop the platform and delete its data
      status    Show every process of the platform, and whether it is ready
      topics    Create and check the Kafka topics
      load      Place orders, by rate or by concurrency, and record each acknowledged one
      verify    Audit the promise over all databases and topics, and name each offender
      bench     Measure what the platform is made of beside its peers, in the same run
      simulate  Play a part of the outside world: the payment provider or the mail server
      help      Print this message or the help of the given subcommand(s)

    Options:
          --data-dir <DIR>  Folder that holds the platform's state [env: ORDERLY_DATA_DIR] [default:
                            .orderly]
      -h, --help            Print help
      -V, --version         Print version
    "#);
}
