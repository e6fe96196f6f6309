//! `orderly exporter` against a real Kafka: what a group has not read, how old it is, and what is said when Kafka is away.

use std::{
    collections::BTreeMap,
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use cli::exporter::{collect::Collector, snapshot::Position};
use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    consumer::{BaseConsumer, CommitMode, Consumer as _},
    producer::{FutureProducer, FutureRecord, Producer as _},
};
use stack::port;
use testkit::{Dedicated, servers, until};
use tokio::process::Command;
use uuid::Uuid;

const WITHIN: Duration = Duration::from_secs(30);
/// The one topic of these tests; the group `order` reads it.
const TOPIC: &str = "stock-results";

/// A topic of the platform under a prefix of its own.
struct Topic {
    kafka: String,
    prefix: String,
    name: String,
    admin: AdminClient<DefaultClientContext>,
}

impl Topic {
    async fn create(kafka: &str, partitions: i32) -> anyhow::Result<Self> {
        let prefix = format!("t{}-", &Uuid::new_v4().simple().to_string()[..12]);
        let name = format!("{prefix}{TOPIC}");
        let admin: AdminClient<DefaultClientContext> =
            ClientConfig::new().set("bootstrap.servers", kafka).create()?;
        let new = NewTopic::new(&name, partitions, TopicReplication::Fixed(1));
        for created in admin.create_topics(&[new], &AdminOptions::new()).await? {
            created.map_err(|(name, code)| anyhow::anyhow!("{name}: {code}"))?;
        }
        Ok(Self { kafka: kafka.to_owned(), prefix, name, admin })
    }

    fn producer(&self, transactional_id: Option<&str>) -> anyhow::Result<FutureProducer> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.kafka);
        if let Some(id) = transactional_id {
            config.set("transactional.id", id);
        }
        Ok(config.create()?)
    }

    async fn send(&self, producer: &FutureProducer, partition: i32, time: i64) -> anyhow::Result<()> {
        let record = FutureRecord::<(), _>::to(&self.name).partition(partition).timestamp(time).payload("x");
        producer.send(record, WITHIN).await.map_err(|(error, _)| error)?;
        Ok(())
    }

    /// The group's commit, as its member would leave it.
    async fn commit(&self, partition: i32, offset: i64) -> anyhow::Result<()> {
        let client: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", &self.kafka)
            .set("group.id", format!("{}order", self.prefix))
            .create()?;
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&self.name, partition, Offset::Offset(offset))?;
        tokio::task::spawn_blocking(move || client.commit(&list, CommitMode::Sync)).await??;
        Ok(())
    }

    async fn delete_before(&self, partition: i32, offset: i64) -> anyhow::Result<()> {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&self.name, partition, Offset::Offset(offset))?;
        let deleted = self.admin.delete_records(&list, &AdminOptions::new()).await?;
        for element in deleted.elements() {
            element.error()?;
        }
        Ok(())
    }

    async fn delete(self) -> anyhow::Result<()> {
        self.admin.delete_topics(&[&self.name], &AdminOptions::new()).await?;
        Ok(())
    }
}

/// The positions by partition, found by one collector time after time. A busy machine does not always answer in the
/// collector's time: it asks again until everything is known.
async fn collect(
    collector: &Arc<Mutex<Collector>>,
    partitions: usize,
) -> anyhow::Result<BTreeMap<i32, Position>> {
    until("all positions are known", WITHIN, || async {
        let collector = Arc::clone(collector);
        let asked = move || collector.lock().unwrap_or_else(PoisonError::into_inner).collect();
        let Ok(snapshot) = tokio::task::spawn_blocking(asked).await? else { return Ok(None) };
        let is_known = snapshot.missing.is_empty() && snapshot.positions.len() == partitions;
        let positions = snapshot.positions.into_iter().map(|position| (position.partition, position));
        Ok(is_known.then(|| positions.collect()))
    })
    .await
}

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as i64
}

#[tokio::test]
async fn lag_is_told_in_records_and_in_time_and_lost_records_are_counted() -> anyhow::Result<()> {
    let topic = Topic::create(&servers().await?.kafka, 2).await?;
    let producer = topic.producer(None)?;
    let first = now() - 1_000_000;
    for index in 0..5 {
        topic.send(&producer, 0, first + index * 100_000).await?;
    }
    let seconds_since = |time: i64| (now() - time) as f64 / 1000.0;
    let collector = Arc::new(Mutex::new(Collector::new(&topic.kafka, &topic.prefix)?));

    let before = seconds_since(first);
    let positions = collect(&collector, 2).await?;
    let Position { group, committed, lag, lost, lag_seconds, .. } = positions[&0].clone();
    assert_eq!((group, committed, lag, lost), ("order", None, 5, 0), "never committed: everything");
    let age = lag_seconds.expect("the first record can be read");
    assert!(age >= before && age <= seconds_since(first), "{age}");
    assert_eq!((positions[&1].lag, positions[&1].lag_seconds), (0, Some(0.0)), "nothing was ever sent there");

    topic.commit(0, 2).await?;
    let before = seconds_since(first + 200_000);
    let positions = collect(&collector, 2).await?;
    assert_eq!((positions[&0].committed, positions[&0].lag, positions[&0].lost), (Some(2), 3, 0));
    let age = positions[&0].lag_seconds.expect("the third record can be read");
    assert!(age >= before && age <= seconds_since(first + 200_000), "{age}");
    let positions = collect(&collector, 2).await?;
    assert!(positions[&0].lag_seconds >= Some(age), "a group that stands still falls behind");

    topic.delete_before(0, 4).await?;
    let before = seconds_since(first + 400_000);
    let positions = collect(&collector, 2).await?;
    assert_eq!((positions[&0].lag, positions[&0].lost), (3, 2));
    let age = positions[&0].lag_seconds.expect("the last record can be read");
    assert!(age >= before && age <= seconds_since(first + 400_000), "{age}");

    topic.commit(0, 5).await?;
    let positions = collect(&collector, 2).await?;
    assert_eq!((positions[&0].lag, positions[&0].lost, positions[&0].lag_seconds), (0, 0, Some(0.0)));
    topic.delete().await
}

#[tokio::test]
async fn the_mark_of_a_transaction_is_no_record_that_waits() -> anyhow::Result<()> {
    let topic = Topic::create(&servers().await?.kafka, 1).await?;
    let producer = topic.producer(Some(&topic.prefix))?;
    let producer =
        tokio::task::spawn_blocking(move || producer.init_transactions(WITHIN).map(|()| producer)).await??;
    producer.begin_transaction()?;
    topic.send(&producer, 0, now()).await?;
    let producer =
        tokio::task::spawn_blocking(move || producer.commit_transaction(WITHIN).map(|()| producer)).await??;
    // What a member has that commits the record that it has processed, and not where it goes on.
    topic.commit(0, 1).await?;
    let collector = Arc::new(Mutex::new(Collector::new(&topic.kafka, &topic.prefix)?));
    let positions = collect(&collector, 1).await?;
    assert_eq!((positions[&0].lag, positions[&0].lag_seconds), (1, Some(0.0)));
    drop(producer);
    topic.delete().await
}

#[tokio::test]
async fn without_kafka_nothing_is_told_and_the_process_stays() -> anyhow::Result<()> {
    let mut kafka = Dedicated::kafka().await?;
    let topic = Topic::create(&kafka.address(), 1).await?;
    let admin = format!("127.0.0.1:{}", port::free());
    let mut exporter = Command::new(env!("CARGO_BIN_EXE_orderly"))
        .args(["exporter", "--kafka", &topic.kafka, "--prefix", &topic.prefix])
        .args(["--admin", &admin, "--interval", "100ms"])
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let is_ready = |ready: bool| {
        let admin = admin.clone();
        async move {
            let answer = reqwest::get(format!("http://{admin}/readyz")).await;
            Ok(answer.is_ok_and(|answer| answer.status().is_success() == ready).then_some(()))
        }
    };
    let metrics = async || anyhow::Ok(reqwest::get(format!("http://{admin}/metrics")).await?.text().await?);
    let lag =
        format!("kafka_consumergroup_lag{{consumergroup=\"order\",topic=\"{TOPIC}\",partition=\"0\"}} 0.0\n");

    let is_known = || async {
        let shown = metrics().await.unwrap_or_default();
        Ok((shown.contains(&lag) && shown.contains("\nkafka_brokers 1.0\n")).then_some(()))
    };

    until("the exporter is ready", WITHIN, || is_ready(true)).await?;
    until("the lag is known", WITHIN, is_known).await?;

    kafka.stop().await?;
    until("it tells that Kafka is away", WITHIN, || is_ready(false)).await?;
    let shown = metrics().await?;
    assert!(!shown.contains(TOPIC) && shown.contains("\nkafka_brokers 0.0\n"), "{shown}");
    let success =
        shown.lines().find(|line| line.starts_with("kafka_exporter_last_success_timestamp_seconds "));
    assert!(success.is_some_and(|line| !line.ends_with(" 0.0")), "when it was known last: {shown}");

    kafka.start().await?;
    until("it is ready again", WITHIN, || is_ready(true)).await?;
    until("the lag is known again", WITHIN, is_known).await?;

    let pid = nix::unistd::Pid::from_raw(exporter.id().unwrap_or_default() as i32);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM)?;
    let log = tokio::time::timeout(WITHIN, async {
        let mut log = String::new();
        if let Some(mut stderr) = exporter.stderr.take() {
            tokio::io::AsyncReadExt::read_to_string(&mut stderr, &mut log).await?;
        }
        anyhow::ensure!(exporter.wait().await?.success(), "{log}");
        Ok(log)
    })
    .await??;
    assert_eq!(log.matches("Kafka does not answer").count(), 1, "said once: {log}");
    Ok(())
}
