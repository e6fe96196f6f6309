//! Every metric of Orderly: name, type, labels, help. Dashboards and alerts depend on these names, docs/TELEMETRY.md is
//! made from them, and a process can register no other.
//!
//! Names follow the OpenTelemetry semantic conventions where they have one (RPC, database client), else Prometheus'
//! own (<https://prometheus.io/docs/practices/naming/>), and for Kafka those of `kafka_exporter`, which
//! everyone's dashboards know. No label is unbounded: an order id, a customer or an address is never one.

use crate::metrics::{Definition, Kind};

/// Seconds of a call or a transaction: the boundaries that the semantic conventions of RPC advise, with a threshold of
/// the SLO of `CreateOrder` (0.2) among them.
const CALL: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.2, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];
/// Seconds on the way from one process to another.
const PASSAGE: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 600.0];
/// Seconds of a whole order, up to past its deadlines.
const ORDER: &[f64] = &[0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0];
/// Records of a batch.
const BATCH: &[f64] = &[1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0];

/// What a page of the documentation says about the metrics of one part.
#[derive(Clone, Copy, Debug)]
pub struct Section {
    /// Heading.
    pub title: &'static str,
    /// Who shows them.
    pub shown_by: &'static str,
    /// In the order of the page.
    pub metrics: &'static [Definition<&'static [&'static str]>],
}

macro_rules! catalogue {
    ($($(#[$doc:meta])* $module:ident, $title:literal, $shown_by:literal {
        $($name:ident = $kind:expr, $metric:literal, $labels:tt, $help:literal;)*
    })*) => {
        $($(#[$doc])* pub mod $module {
            use super::*;
            $(#[doc = $help]
            pub const $name: Definition<[&'static str; { let labels: &[&str] = &$labels; labels.len() }]> =
                Definition { name: $metric, kind: $kind, labels: $labels, help: $help };)*
        })*

        /// Everything, in the order of the documentation.
        pub const ALL: &[Section] = &[$(Section {
            title: $title,
            shown_by: $shown_by,
            metrics: &[$(Definition { name: $metric, kind: $kind, labels: &$labels, help: $help }),*],
        }),*];
    };
}

catalogue! {
    /// gRPC servers.
    rpc, "gRPC", "order, inventory, billing, notification" {
        CALL_DURATION = Kind::Histogram(CALL), "rpc_server_call_duration_seconds",
            ["rpc_method", "rpc_response_status_code"],
            "Time from a call's arrival to its status; a stream's is that of its whole life";
        CALLS_ACTIVE = Kind::Gauge, "rpc_server_calls_active", ["rpc_method"], "Calls that are being worked on";
    }
    /// Connection pools.
    database, "Database pool", "order, inventory, billing, notification" {
        CONNECTIONS = Kind::Gauge, "db_client_connections", ["db_client_connection_state"],
            "Connections to the database that are idle or used";
        CONNECTIONS_MAX = Kind::Gauge, "db_client_connection_max", [], "Most connections that the pool may open";
    }
    /// The relay.
    outbox, "Outbox and relay", "outbox-relay" {
        UP = Kind::Gauge, "outbox_up", ["outbox"], "1 while this relay publishes the outbox or stands by for it";
        LEASE_EPOCH = Kind::Gauge, "outbox_lease_epoch", ["outbox"],
            "Epoch of the lease that this relay holds, 0 without it";
        PUBLISHED = Kind::Counter, "outbox_published_total", ["outbox", "topic"], "Events acknowledged by Kafka";
        PUBLISH_DURATION = Kind::Histogram(PASSAGE), "outbox_publish_duration_seconds", ["outbox"],
            "Time from an event's append to Kafka's acknowledgement";
        OLDEST_UNPUBLISHED = Kind::Gauge, "outbox_oldest_unpublished_seconds", ["outbox"],
            "Age of the oldest event that is not published, 0 without one";
        UNPUBLISHED = Kind::Gauge, "outbox_unpublished_events", ["outbox"],
            "Events that are not published, as last counted, at most 100000; of a topic that waits alone only one counts";
        IN_FLIGHT = Kind::Gauge, "outbox_in_flight_events", ["outbox"],
            "Events given to Kafka and not acknowledged yet";
        OLDEST_TRANSACTION = Kind::Gauge, "outbox_oldest_transaction_seconds", ["outbox"],
            "Age of the oldest open transaction that has written, as far as the relay sees; its events come late";
        REFUSED = Kind::Counter, "outbox_refused_total", ["outbox", "topic"],
            "Events that Kafka refused; they are parked and their keys held";
        HELD_KEYS = Kind::Gauge, "outbox_held_keys", ["outbox"],
            "Keys whose events are parked behind one that Kafka refused, until an operator releases them";
        OVERTAKEN_KEYS = Kind::Counter, "outbox_overtaken_keys_total", ["outbox"],
            "Keys of which Kafka took a later event before an earlier one";
        LANES = Kind::Gauge, "outbox_lanes", ["outbox"], "Topics that cannot be published to while all others flow";
        RING_USED = Kind::Gauge, "outbox_ring_leaves_used", ["outbox"],
            "Daily leaves with rows, of eight; at eight, new events lie among those of last week";
        RING_OVERDUE = Kind::Gauge, "outbox_ring_leaves_overdue", ["outbox"],
            "Daily leaves that are due to be truncated and were not";
        SESSIONS_LOST = Kind::Counter, "outbox_sessions_lost_total", ["outbox"],
            "Sessions with the database that ended before the relay did, each read anew from the durable cursor";
    }
    /// Members of consumer groups.
    consumer, "Consumers", "order, inventory, billing, notification" {
        ASSIGNED_PARTITIONS = Kind::Gauge, "consumer_assigned_partitions", ["group", "topic"],
            "Partitions that this member reads";
        BLOCKED_PARTITIONS = Kind::Gauge, "consumer_blocked_partitions", ["group"],
            "Partitions that wait for a record that can be neither processed nor parked";
        RECORDS = Kind::Counter, "consumer_records_total", ["group", "topic"], "Records that took effect";
        REPEATS = Kind::Counter, "consumer_repeats_total", ["group", "topic"],
            "Records dropped as repeats by the inbox";
        DELIVERY_DURATION = Kind::Histogram(PASSAGE), "consumer_delivery_duration_seconds", ["group", "topic"],
            "Time from an event's making to its committed effect";
        BATCH_DURATION = Kind::Histogram(PASSAGE), "consumer_batch_duration_seconds", ["group"],
            "Time of a batch, from its first record to the committed transaction";
        BATCH_RECORDS = Kind::Histogram(BATCH), "consumer_batch_records", ["group"], "Records of a committed batch";
        BATCH_FAILURES = Kind::Counter, "consumer_batch_failures_total", ["group"],
            "Batches rolled back to be run again";
        DEAD_LETTERS = Kind::Counter, "consumer_dead_letters_total", ["group", "topic", "kind"],
            "Records that failed and became dead letters";
        HELD_RECORDS = Kind::Counter, "consumer_held_records_total", ["group", "topic"],
            "Records that were put behind a dead letter of their key";
        REPLAYED_RECORDS = Kind::Counter, "consumer_replayed_records_total", ["group", "topic"],
            "Dead letters, and records behind them, that took effect";
        OPEN_DEAD_LETTERS = Kind::Gauge, "consumer_open_dead_letters", ["group", "topic"],
            "Dead letters, and records behind them, that nobody has replayed or discarded";
        HELD_KEYS = Kind::Gauge, "consumer_held_keys", ["group", "topic"],
            "Keys whose records wait behind a dead letter";
    }
    /// Calls to the outside world.
    dispatch, "Dispatchers", "billing, notification" {
        CALLS = Kind::Counter, "dispatch_calls_total", ["dispatcher", "outcome"],
            "Calls by what they told: answered, unavailable, unasked, or failed where no outcome could be written";
        CALL_DURATION = Kind::Histogram(PASSAGE), "dispatch_call_duration_seconds", ["dispatcher"],
            "Time from a claim to its committed outcome";
        CALLS_ACTIVE = Kind::Gauge, "dispatch_calls_active", ["dispatcher"], "Calls on their way";
        BREAKER_OPEN = Kind::Gauge, "dispatch_breaker_open", ["dispatcher"],
            "1 while calls are stopped because the other side is down";
    }
    /// Orders and their saga.
    order, "Orders", "order" {
        TRANSITIONS = Kind::Counter, "order_transitions_total", ["status"],
            "Orders that came into a status; PENDING is an order placed";
        REJECTIONS = Kind::Counter, "order_rejections_total", ["reason"], "Orders that ended REJECTED, by the reason";
        DECISION_DURATION = Kind::Histogram(ORDER), "order_decision_duration_seconds", ["status"],
            "Time from an order's placing to its decision: CONFIRMED, REJECTED or CANCELLED";
        CONFIRMED_AMOUNT = Kind::Counter, "order_confirmed_amount_minor_units_total", ["currency"],
            "What confirmed orders cost, in minor units of the currency";
        OPEN = Kind::Gauge, "order_open", ["status"], "Orders that are not decided, or need attention";
        OLDEST_OPEN = Kind::Gauge, "order_oldest_open_seconds", ["status"],
            "How long the oldest of these orders has been in its status, 0 without one";
        OVERDUE = Kind::Gauge, "order_overdue", [],
            "Orders whose deadline has passed and not taken effect: answers or requests are still on their way";
        DEADLINES_PASSED = Kind::Counter, "order_deadlines_passed_total", ["wait"],
            "Deadlines that took effect, by what was waited for";
        HORIZON_AGE = Kind::Gauge, "order_horizon_age_seconds", [],
            "How far back everything that is on its way to this service is known to have arrived, 0 while nothing is due";
        WATCHERS = Kind::Gauge, "order_watchers", [], "Open WatchOrder streams";
    }
    /// Stock.
    inventory, "Inventory", "inventory" {
        RESERVATIONS = Kind::Counter, "inventory_reservations_total", ["outcome"],
            "Reservations that came into a state: reserved, rejected, released, committed";
        ORPHANS = Kind::Gauge, "inventory_oldest_reservation_seconds", [],
            "Age of the oldest reservation that is neither committed nor released, 0 without one";
    }
    /// Payments.
    billing, "Billing", "billing" {
        TRANSITIONS = Kind::Counter, "billing_transitions_total", ["status"], "Payments that came into a status";
        OWED = Kind::Gauge, "billing_owed_calls", ["status"],
            "Payments that owe the provider a call: a charge while PENDING, a refund while REFUNDING";
        OLDEST_OWED = Kind::Gauge, "billing_oldest_owed_call_seconds", [],
            "Age of the oldest payment that owes the provider a call, 0 without one";
    }
    /// Notifications.
    notification, "Notifications", "notification" {
        OUTCOMES = Kind::Counter, "notification_outcomes_total", ["channel", "outcome"],
            "Deliveries by channel: delivered, retried, undelivered (given up)";
        PENDING = Kind::Gauge, "notification_pending", ["channel"], "Notifications that are not delivered yet";
        OLDEST_PENDING = Kind::Gauge, "notification_oldest_pending_seconds", ["channel"],
            "Age of the oldest of them, 0 without one";
    }
    /// Kafka from outside, by the names of `kafka_exporter`.
    kafka, "Kafka, from outside", "orderly exporter" {
        BROKERS = Kind::Gauge, "kafka_brokers", [], "Brokers that answer";
        PARTITIONS = Kind::Gauge, "kafka_topic_partitions", ["topic"], "Partitions of a topic";
        UNDER_REPLICATED = Kind::Gauge, "kafka_topic_partition_under_replicated_partition", ["topic", "partition"],
            "1 while a partition has fewer replicas in sync than replicas";
        OLDEST_OFFSET = Kind::Gauge, "kafka_topic_partition_oldest_offset", ["topic", "partition"],
            "Offset of the oldest record";
        CURRENT_OFFSET = Kind::Gauge, "kafka_topic_partition_current_offset", ["topic", "partition"],
            "Offset of the next record";
        GROUP_OFFSET = Kind::Gauge, "kafka_consumergroup_current_offset", ["consumergroup", "topic", "partition"],
            "Offset that a group has committed";
        GROUP_LAG = Kind::Gauge, "kafka_consumergroup_lag", ["consumergroup", "topic", "partition"],
            "Records that a group has not committed";
        GROUP_LAG_SECONDS = Kind::Gauge, "kafka_consumergroup_lag_seconds", ["consumergroup", "topic", "partition"],
            "Age of the oldest record that a group has not committed, 0 without one";
        RETENTION_LOSS = Kind::Gauge, "kafka_consumergroup_lost_records", ["consumergroup", "topic", "partition"],
            "Records that retention has removed before the group committed them";
        COLLECTED = Kind::Gauge, "kafka_exporter_last_success_timestamp_seconds", [],
            "When Kafka was last asked about all of this with success";
        COLLECT_DURATION = Kind::Gauge, "kafka_exporter_collect_duration_seconds", [], "How long that took";
    }
    /// The process and its runtime.
    process, "Process and runtime", "every process" {
        BUILD = Kind::Gauge, "orderly_build_info", ["service", "version"], "1, with what is running";
        START_TIME = Kind::Gauge, "process_start_time_seconds", [], "When the process started, since the epoch";
        CPU = Kind::Counter, "process_cpu_seconds_total", [], "User and system CPU time";
        RESIDENT_MEMORY = Kind::Gauge, "process_resident_memory_bytes", [], "Resident memory";
        VIRTUAL_MEMORY = Kind::Gauge, "process_virtual_memory_bytes", [], "Virtual memory";
        OPEN_FILES = Kind::Gauge, "process_open_fds", [], "Open file descriptors";
        MAX_FILES = Kind::Gauge, "process_max_fds", [], "Most file descriptors that may be open";
        THREADS = Kind::Gauge, "process_threads", [], "Threads of the operating system";
        WORKERS = Kind::Gauge, "tokio_workers", [], "Worker threads of the runtime";
        BUSY = Kind::Counter, "tokio_worker_busy_seconds_total", [], "Time that worker threads spent on tasks";
        TASKS = Kind::Gauge, "tokio_alive_tasks", [], "Tasks that have not ended";
        QUEUE = Kind::Gauge, "tokio_global_queue_depth", [], "Tasks that wait in the runtime's global queue";
        LOG_LINES_DROPPED = Kind::Counter, "log_lines_dropped_total", [],
            "Log lines that were not written, because whoever reads them was too slow";
    }
}
