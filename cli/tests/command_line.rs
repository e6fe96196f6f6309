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
      dlq       Look at the records that could not be processed; replay or discard them
      rebuild   Make a view anew from its events, compare it with the live one, and swap the two
      exporter  Ask Kafka about topics, groups and their lag, and show it to Prometheus
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

/// What clap says to these arguments; nothing where it takes them.
fn refused(line: &[&str]) -> Option<String> {
    Cli::try_parse_from([&["orderly", "dlq"], line].concat()).err().map(|error| error.to_string())
}

#[test]
fn dead_letters_are_replayed_and_discarded_only_where_it_is_said_which_and_why() {
    let id = "0199aa00-0000-7000-8000-000000000000";
    for command in ["replay", "discard"] {
        for which in [&[id, id][..], &["--all"], &["--consumer", "billing", "--key", "hex:00ff"]] {
            let line = [&[command, "--reason", "fixed"], which].concat();
            assert_eq!(refused(&line), None, "{line:?}");
        }
        let cases: [(&[&str], &str); 8] = [
            (&[command, "--reason", "fixed"], "--all"),
            (&[command, id], "--reason <TEXT>"),
            (&[command, id, "--reason", " "], "it says nothing"),
            (&[command, id, "--all", "--reason", "fixed"], "cannot be used with"),
            (&[command, id, "--topic", "t", "--reason", "fixed"], "cannot be used with"),
            (&[command, "--all", "--kind", "bug", "--reason", "fixed"], "cannot be used with"),
            (&[command, "--consumer", "orderly-billing", "--reason", "fixed"], "billing, notification"),
            (&[command, "no-uuid", "--reason", "fixed"], "no-uuid"),
        ];
        for (line, words) in cases {
            let said = refused(line).unwrap_or_default();
            assert!(said.contains(words), "{line:?}: {said}");
        }
    }
    for rate in ["0", "-1", "0.0001", "inf", "NaN", "x"] {
        assert!(refused(&["replay", "--all", "--reason", "fixed", "--rate", rate]).is_some(), "{rate}");
    }
    assert!(refused(&["replay", "--all", "--reason", "fixed", "--dry-run", "--detach"]).is_some());
    assert_eq!(refused(&["list", "--json", "--ids"]), None);
    assert_eq!(refused(&["--json", "list"]), None);
    assert!(refused(&["status", "--results"]).is_some());
}

#[test]
fn help_teaches_how_to_work_through_dead_letters() {
    let mut command = Cli::command().term_width(100);
    let dlq = command.find_subcommand_mut("dlq").expect("it is there");
    insta::assert_snapshot!(dlq.render_help().to_string(), @r#"
    Look at the records that could not be processed; replay or discard them

    Usage: dlq [OPTIONS] <COMMAND>

    Commands:
      list     Show what has failed, in groups of one error, or with --ids each letter
      show     Show everything about one letter: headers, payload, what waits behind it, what was done
               with it
      replay   Process letters again, each key in its order; exit code 1 when any is dead again
      status   Show the replays that run, are stopped, or ended within a day
      stop     Stop a replay after the record that is being processed
      resume   Go on with a replay that was stopped
      discard  Give letters up for good; what waits behind them goes on
      export   Write letters as NDJSON, one a line, with what waits behind them
      help     Print this message or the help of the given subcommand(s)

    Options:
          --data-dir <DIR>   Folder that holds the platform's state [env: ORDERLY_DATA_DIR] [default:
                             .orderly]
          --json             Put what is found on stdout as JSON
          --postgres <URL>   PostgreSQL server, with the role to use: postgres://ROLE:PASSWORD@HOST:PORT
                             [env: ORDERLY_POSTGRES]
          --prefix <PREFIX>  Put before every topic and group name [env: ORDERLY_PREFIX]
      -h, --help             Print help

    A record that cannot be processed becomes a dead letter: it is parked, and later records of its
    key are held behind it. Only what is parked is selected; what is held follows by itself, in order.

      orderly dlq list                                        what has failed, by error
      orderly dlq list --ids --consumer billing               the letters themselves
      orderly dlq show ID                                     one of them, with its payload and its past
      orderly dlq replay --fingerprint F --reason 'fixed in 1.4.2' --dry-run
      orderly dlq discard ID --reason 'a test record'
    "#);
    let replay = dlq.find_subcommand_mut("replay").expect("it is there");
    insta::assert_snapshot!(replay.render_help().to_string(), @r#"
    Process letters again, each key in its order; exit code 1 when any is dead again

    Usage: replay [OPTIONS] --reason <TEXT> <ID|--consumer <GROUP>|--topic <TOPIC>|--type <TYPE>|--kind <KIND>|--fingerprint <FINGERPRINT>|--key <KEY>|--all>

    Arguments:
      [ID]...  Ids of parked letters

    Options:
          --consumer <GROUP>           Those of this consumer group, without the platform's prefix
                                       [possible values: order, inventory, billing, notification]
          --topic <TOPIC>              Those of this topic, without prefix
          --type <TYPE>                Those of this event type, by its full protobuf name
          --kind <KIND>                Those that failed in this way [possible values: poison, bug,
                                       too-old, clock, undelivered]
          --fingerprint <FINGERPRINT>  Those with this error, by the fingerprint in `list`
          --key <KEY>                  Those with this key; `hex:` and digits for one that is not text
          --all                        Every parked letter
          --reason <TEXT>              Why; the audit keeps it
          --actor <NAME>               Who does it; the login name where it is not said
          --rate <N>                   At most so many records a second, for each consumer
          --dry-run                    Only say what would be replayed
          --detach                     Only order it; the consumers carry it out
          --results                    Say what has become of each record
          --data-dir <DIR>             Folder that holds the platform's state [env: ORDERLY_DATA_DIR]
                                       [default: .orderly]
          --json                       Put what is found on stdout as JSON
          --postgres <URL>             PostgreSQL server, with the role to use:
                                       postgres://ROLE:PASSWORD@HOST:PORT [env: ORDERLY_POSTGRES]
          --prefix <PREFIX>            Put before every topic and group name [env: ORDERLY_PREFIX]
      -h, --help                       Print help

    The consumers process the letters themselves, from their database: nothing goes through a topic
    again. Whoever looks on may stop looking with Ctrl-C; `orderly dlq stop` stops the replay.

    A letter that fails again stays where it was, and what waits behind it goes on waiting. The exit
    code is 0 when every letter has taken effect, 1 when any is dead again, was left or was discarded
    meanwhile, and 130 after Ctrl-C.

      orderly dlq replay --fingerprint F --reason 'fixed in 1.4.2' --dry-run
      orderly dlq replay --consumer billing --rate 50 --reason 'the provider is back' --results
    "#);
}

#[test]
fn help_teaches_how_to_rebuild_the_view_of_orders() {
    let mut command = Cli::command().term_width(100);
    let rebuild = command.find_subcommand_mut("rebuild").expect("it is there");
    let orders = rebuild.find_subcommand_mut("orders").expect("it is there");
    insta::assert_snapshot!(orders.render_help().to_string(), @"
    Rebuild the view of orders from their events and compare the two, beside the running service

    Usage: orders [OPTIONS]

    Options:
          --data-dir <DIR>  Folder that holds the platform's state [env: ORDERLY_DATA_DIR] [default:
                            .orderly]
          --postgres <URL>  PostgreSQL server, with the role to use: postgres://ROLE:PASSWORD@HOST:PORT
                            [env: ORDERLY_POSTGRES]
          --swap            Put the rebuilt view in the place of the live one, which is kept as
                            `orders_before_rebuild`
          --drop-old        Delete the view that a swap has kept
          --json            Put what was found on stdout as one JSON object
      -h, --help            Print help

    Without --swap nothing changes. With it, whoever writes orders waits for a moment; nothing is
    lost, and no service needs a restart. The exit code is 0 when every order was equal, 1 when any
    was not (--swap has mended it), and 2 when the view could not be rebuilt.

      orderly rebuild orders                 is the view what the events say?
      orderly rebuild orders --swap          make it so
      orderly rebuild orders --drop-old      delete what the last swap has kept
    ");
    assert!(Cli::try_parse_from(["orderly", "rebuild", "orders", "--swap", "--drop-old", "--json"]).is_ok());
    assert!(Cli::try_parse_from(["orderly", "rebuild"]).is_err(), "what?");
}
