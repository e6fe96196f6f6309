//! The partition fence: a worker that was replaced cannot commit. It also knows how far each partition has been read.

use std::collections::BTreeMap;

use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use crate::{Error, buffer::Read, kafka::Ownership};

/// Partitions with the epochs under which a batch was read.
pub(crate) struct Fence {
    consumer: String,
    partitions: Vec<Fenced>,
}

/// One partition of a batch.
pub(crate) struct Fenced {
    /// The topic as Kafka names it, and the partition.
    pub partition: (String, i32),
    epoch: i64,
    /// Of the batch's first record.
    pub first: i64,
    /// Behind the batch's last record.
    pub next: i64,
    /// Behind the last record that has taken effect, before the batch.
    pub reached: Option<i64>,
}

impl Fence {
    /// Takes over each partition of these records that this worker has no epoch for yet.
    pub async fn acquire(
        pool: &PgPool,
        consumer: &str,
        owner: Uuid,
        ownership: &Ownership,
        reads: &[Read],
    ) -> Result<Self, Error> {
        let mut bounds = BTreeMap::new();
        for read in reads {
            let offset = read.message.offset;
            bounds
                .entry(&read.partition)
                .and_modify(|(_, next)| *next = offset + 1)
                .or_insert((offset, offset + 1));
        }
        let mut partitions = Vec::with_capacity(bounds.len());
        for (partition, (first, next)) in bounds {
            let (epoch, reached) = match ownership.epoch(partition) {
                Some(known) => known,
                None => {
                    let taken: (i64, Option<i64>) = sqlx::query_as(include_str!("sql/take_over.sql"))
                        .bind(consumer)
                        .bind(&partition.0)
                        .bind(partition.1)
                        .bind(owner)
                        .fetch_one(pool)
                        .await?;
                    ownership.set_epoch(partition, taken);
                    taken
                }
            };
            partitions.push(Fenced { partition: partition.clone(), epoch, first, next, reached });
        }
        Ok(Self { consumer: consumer.to_owned(), partitions })
    }

    /// Its partitions.
    pub fn partitions(&self) -> &[Fenced] {
        &self.partitions
    }

    /// How far its partition has been read, where the record lies before that: it is a repeat, or the log is another one.
    pub fn has_passed(&self, read: &Read) -> Option<i64> {
        let fenced = self.partitions.iter().find(|fenced| fenced.partition == read.partition)?;
        fenced.reached.filter(|reached| read.message.offset < *reached)
    }

    /// The first statement of the batch: locks its partitions until the commit, or finds them lost.
    pub async fn pass(&self, connection: &mut PgConnection) -> Result<(), Error> {
        fn column<T>(fence: &Fence, value: impl Fn(&Fenced) -> T) -> Vec<T> {
            fence.partitions.iter().map(value).collect()
        }
        let passed = sqlx::query(include_str!("sql/pass_fence.sql"))
            .bind(&self.consumer)
            .bind(column(self, |fenced| fenced.partition.0.clone()))
            .bind(column(self, |fenced| fenced.partition.1))
            .bind(column(self, |fenced| fenced.epoch))
            .bind(column(self, |fenced| fenced.next))
            .execute(connection)
            .await?;
        if passed.rows_affected() == self.partitions.len() as u64 { Ok(()) } else { Err(Error::Fenced) }
    }
}
