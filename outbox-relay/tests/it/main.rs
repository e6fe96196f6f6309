//! The relay as it is run, a process beside a real PostgreSQL and a real Kafka, seen only through its contract: its
//! flags, its admin port, the tables of the outbox, and the records in the topics.

mod backlog;
mod clusters;
mod crash;
mod failover;
mod metrics;
mod outages;
mod overtaken;
mod permissions;
mod primary;
mod proof;
mod records;
mod refusals;
mod relay;
mod ring;
mod scene;
mod size_limits;
mod soak;
mod traces;
mod trouble;
mod verdict;
mod writers;
