//! `orderly bench consumer`: effects a second of a consumer that commits batches, beside the same consumer with a
//! transaction for each record. One run, one machine, a PostgreSQL and a Kafka of its own.

use std::{
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use ::consumer::{
    Consumer, EventType, HandleError, Handler, KafkaArgs, Limits, Message, Metrics, Subscription, Topic,
};
use ::outbox::{Event, Source};
use anyhow::{Context as _, ensure};
use proto::order::v1::OrderCreated;
use rdkafka::{
    ClientConfig,
    error::KafkaError,
    message::{Header, OwnedHeaders},
    producer::{BaseRecord, DefaultProducerContext, Producer as _, ThreadedProducer},
    types::RDKafkaErrorCode,
};
use serde::Serialize;
use sqlx::{AssertSqlSafe, PgConnection, PgPool};
use telemetry::Heartbeat;
use tokio::{
    sync::Notify,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    record::{KEYS, PAYLOAD_BYTES, Record},
    servers::{ROLES, Servers},
    table::{Format, Table, or_dash, thousands},
};
use crate::{output, platform::process::Identity};

const TOPIC: &str = "events";
const EVENTS: &[EventType] = &[EventType::of::<OrderCreated>()];
const TOPICS: &[Topic] = &[Topic::new(TOPIC, EVENTS)];
const SOURCE: Source = Source::new("/orderly/bench");
/// How long anything may take.
const WITHIN: Duration = Duration::from_secs(600);
const LOOK: Duration = Duration::from_millis(20);
/// Wanted of a batch beside a transaction for each record.
const WANTED: f64 = 10.0;

/// Arguments of `orderly bench consumer`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Records that are consumed in batches; a tenth as many one by one
    #[arg(long, default_value_t = 300_000, value_parser = clap::value_parser!(u64).range(1000..=20_000_000))]
    records: u64,
    /// Let every effect cause an event of its own, in the outbox
    #[arg(long)]
    events: bool,
    /// Folder for the servers' data, deleted at the end
    #[arg(long, value_name = "PATH", default_value = "target/bench")]
    work_dir: PathBuf,
    /// Put the figures on stdout as one JSON object
    #[arg(long, conflicts_with = "markdown")]
    json: bool,
    /// Put the figures on stdout as the table of docs/BENCHMARKS.md
    #[arg(long)]
    markdown: bool,
}

/// One consumer, measured.
#[derive(Clone, Debug, Serialize)]
struct Measured {
    what: &'static str,
    batch_records: usize,
    records: u64,
    /// From the first effect to the last, by PostgreSQL's clock.
    effects_per_second: f64,
    transactions: i64,
    /// Processor seconds for 100,000 effects: of the consumer, PostgreSQL, Kafka.
    cpu_per_100k: [Option<f64>; 3],
}

/// Inserts one row for each record.
struct Effects {
    events: bool,
}

impl Handler for Effects {
    async fn handle(
        &self,
        connection: &mut PgConnection,
        message: &Message,
    ) -> Result<Vec<Event>, HandleError> {
        sqlx::query("INSERT INTO effect (id, payload) VALUES ($1, $2)")
            .bind(message.id)
            .bind(&message.payload)
            .execute(connection)
            .await?;
        let event = || SOURCE.event("effects", message.id, 1, &OrderCreated::default());
        Ok(if self.events { vec![event()] } else { Vec::new() })
    }
}

/// Measures, and prints what was measured.
///
/// # Errors
/// When a server cannot be installed or started, or something does not come to its end in time.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let program = std::env::current_exe()?;
    if program.components().any(|part| part.as_os_str() == "debug") {
        output::note("warning: this is a debug build, its figures say nothing");
    }
    let mut servers = Servers::prepare(&args.work_dir, program)?;
    servers.start().await?;
    let mut measured = Vec::new();
    // What is cold is warmed by the first, which does not count.
    for (what, limits, records) in [
        ("warm-up", Limits::DEFAULT, args.records / 10),
        ("batches", Limits::DEFAULT, args.records),
        ("one by one", Limits { records: 1, ..Limits::DEFAULT }, args.records / 10),
    ] {
        output::note(format!("{what}: {records} records"));
        let one = measure(&servers, &args, what, limits, records).await.context(what)?;
        measured.push(one);
    }
    servers.stop().await?;
    measured.remove(0);
    let ratio = measured[0].effects_per_second / measured[1].effects_per_second;
    let mut stdout = io::stdout().lock();
    if args.json {
        let report =
            serde_json::json!({ "measured": measured, "batches_over_one_by_one": ratio, "wanted": WANTED });
        writeln!(stdout, "{report}")?;
    } else {
        let format = if args.markdown { Format::Markdown } else { Format::Text };
        write!(stdout, "{}", print(&measured, ratio, format))?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn measure(
    servers: &Servers,
    args: &Args,
    what: &'static str,
    limits: Limits,
    records: u64,
) -> anyhow::Result<Measured> {
    let prefix = format!("{}-", what.replace(' ', "-"));
    let database = prefix.replace('-', "_");
    servers.create_database(&database).await?;
    let owner = servers.pool("postgres", &database, 1).await?;
    ::outbox::migrate(&owner, &ROLES).await?;
    ::consumer::migrate(&owner, &ROLES).await?;
    let tables = format!(
        "CREATE TABLE effect (id uuid PRIMARY KEY, payload bytea, at timestamptz DEFAULT clock_timestamp());
         GRANT INSERT ON effect TO {}",
        ROLES.app
    );
    sqlx::raw_sql(AssertSqlSafe(tables)).execute(&owner).await?;
    let topic = format!("{prefix}{TOPIC}");
    servers.broker()?.create(&topic).await?;
    let (kafka, produced) = (servers.kafka().to_owned(), topic.clone());
    tokio::task::spawn_blocking(move || produce(&kafka, &produced, records)).await??;
    servers.checkpoint().await?;

    let (shutdown, registry) = (CancellationToken::new(), telemetry::Metrics::new());
    let subscription = Subscription { group: "bench", topics: TOPICS, limits };
    let consumer = Consumer {
        subscription,
        kafka: KafkaArgs { kafka: servers.kafka().to_owned(), prefix },
        pool: servers.pool(ROLES.app, &database, 4).await?,
        handler: Effects { events: args.events },
        after_commit: Arc::new(Notify::new()),
        heartbeat: Arc::new(Heartbeat::new("bench")),
        metrics: Metrics::register(&registry, &subscription),
        version: env!("CARGO_PKG_VERSION"),
    };
    let (postgres, broker) = servers.processes()?;
    let own = Identity::of(std::process::id()).context("this process is running")?;
    let cpu = || [own, postgres, broker].map(|process| process.usage().map(|usage| usage.cpu.as_secs_f64()));
    let before = cpu();
    let running = tokio::spawn(consumer.run(shutdown.clone()));
    wait(&owner, records).await?;
    let after = cpu();
    shutdown.cancel();
    running.await??;
    let (first_to_last, rows, transactions): (f64, i64, i64) = sqlx::query_as(
        "SELECT extract(epoch FROM max(at) - min(at))::float8, count(*), count(DISTINCT m.xmin::text)
         FROM effect JOIN (SELECT id, xmin FROM inbox.message) AS m ON m.id = effect.id::text",
    )
    .fetch_one(&owner)
    .await?;
    ensure!(rows as u64 == records, "{rows} effects of {records} records");
    owner.close().await;
    servers.drop_database(&database).await?;
    let between = |index: usize| Some(after[index]? - before[index]?);
    // The servers are children of this process.
    let own =
        between(0).zip(between(1)).zip(between(2)).map(|((all, postgres), kafka)| all - postgres - kafka);
    let per_100k = |seconds: Option<f64>| seconds.map(|seconds| seconds * 100_000.0 / records as f64);
    Ok(Measured {
        what,
        batch_records: limits.records,
        records,
        effects_per_second: records as f64 / first_to_last,
        transactions,
        cpu_per_100k: [own, between(1), between(2)].map(per_100k),
    })
}

async fn wait(owner: &PgPool, records: u64) -> anyhow::Result<()> {
    let deadline = Instant::now() + WITHIN;
    // A counter costs less than counting, which would be part of what is measured.
    let last = "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM inbox.processing_seq";
    while sqlx::query_scalar::<_, i64>(last).fetch_one(owner).await? < records as i64 {
        ensure!(Instant::now() < deadline, "not consumed within {WITHIN:?}");
        sleep(LOOK).await;
    }
    let all = "SELECT count(*) = $1 FROM effect";
    while !sqlx::query_scalar::<_, bool>(all).bind(records as i64).fetch_one(owner).await? {
        ensure!(Instant::now() < deadline, "not consumed within {WITHIN:?}");
        sleep(10 * LOOK).await;
    }
    Ok(())
}

fn produce(kafka: &str, topic: &str, records: u64) -> anyhow::Result<()> {
    let producer: ThreadedProducer<DefaultProducerContext> = ClientConfig::new()
        .set("bootstrap.servers", kafka)
        .set("enable.idempotence", "true")
        .set("linger.ms", "20")
        .set("compression.type", "lz4")
        .create()?;
    for number in 0..records {
        let record = Record { number, key: number % KEYS };
        let (key, payload) = (record.aggregate_id().to_string(), record.payload());
        let id = Uuid::now_v7().to_string();
        loop {
            let headers = [
                ("ce_source", "/orderly/bench"),
                ("ce_id", &id),
                ("ce_type", "orderly.order.v1.OrderCreated"),
            ];
            let headers = headers.into_iter().fold(OwnedHeaders::new(), |headers, (key, value)| {
                headers.insert(Header { key, value: Some(value) })
            });
            match producer.send(BaseRecord::to(topic).key(&key).payload(&payload).headers(headers)) {
                Ok(()) => break,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                    std::thread::sleep(LOOK)
                }
                Err((error, _)) => return Err(error.into()),
            }
        }
    }
    Ok(producer.flush(WITHIN)?)
}

fn print(measured: &[Measured], ratio: f64, format: Format) -> String {
    let mut table = Table::new(
        format!("Consumer: effects, one row of {PAYLOAD_BYTES} bytes each"),
        &[
            "records",
            "at most in a transaction",
            "consumed",
            "effects/s",
            "transactions",
            "CPU s/100k",
            "PostgreSQL",
            "Kafka",
        ],
    );
    for one in measured {
        let cpu = one.cpu_per_100k.map(|cpu| or_dash(cpu, |cpu| format!("{cpu:.2}")));
        let cells = [
            one.what.to_owned(),
            one.batch_records.to_string(),
            thousands(one.records as f64),
            thousands(one.effects_per_second),
            thousands(one.transactions as f64),
        ];
        table.row(cells.into_iter().chain(cpu));
    }
    format!("{}batches / one by one: {ratio:.1}, wanted at least {WANTED:.0}\n", table.print(format))
}
