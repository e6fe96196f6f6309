//! The partition fence: a worker that was replaced cannot commit.

use std::collections::BTreeSet;

use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use crate::{Error, kafka::Ownership};

/// Partitions with the epochs under which a batch was read.
pub(crate) struct Fence {
    consumer: String,
    topics: Vec<String>,
    partitions: Vec<i32>,
    epochs: Vec<i64>,
}

impl Fence {
    /// Takes over each partition that this worker owns and has no epoch for yet.
    pub async fn acquire(
        pool: &PgPool,
        consumer: &str,
        owner: Uuid,
        ownership: &Ownership,
        partitions: BTreeSet<(String, i32)>,
    ) -> Result<Self, Error> {
        let mut fence = Self {
            consumer: consumer.to_owned(),
            topics: Vec::new(),
            partitions: Vec::new(),
            epochs: Vec::new(),
        };
        for partition in partitions {
            let epoch = match ownership.epoch(&partition) {
                Some(epoch) => epoch,
                None => {
                    let epoch = sqlx::query_scalar(include_str!("sql/take_over.sql"))
                        .bind(consumer)
                        .bind(&partition.0)
                        .bind(partition.1)
                        .bind(owner)
                        .fetch_one(pool)
                        .await?;
                    ownership.set_epoch(&partition, epoch);
                    epoch
                }
            };
            fence.topics.push(partition.0);
            fence.partitions.push(partition.1);
            fence.epochs.push(epoch);
        }
        Ok(fence)
    }

    /// The first statement of the batch: locks its partitions until the commit, or finds them lost.
    pub async fn pass(&self, connection: &mut PgConnection) -> Result<(), Error> {
        let passed = sqlx::query(include_str!("sql/pass_fence.sql"))
            .bind(&self.consumer)
            .bind(&self.topics)
            .bind(&self.partitions)
            .bind(&self.epochs)
            .execute(connection)
            .await?;
        if passed.rows_affected() == self.topics.len() as u64 { Ok(()) } else { Err(Error::Fenced) }
    }
}
