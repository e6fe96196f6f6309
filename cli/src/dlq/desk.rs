//! The operator's connections, and the names of groups as people give them.

use std::{str::FromStr as _, time::Duration};

use anyhow::{Context as _, bail};
use consumer::dead_letters::{self, Filter, Letter, Progress};
use serde::Serialize;
use sqlx::{
    PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use uuid::Uuid;

use super::select::{Filters, Selection};
use crate::{
    output,
    platform::{Database, Platform},
};

/// Longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(5);

/// The databases, as the operator's role.
pub(super) struct Desk {
    /// Whether data is wanted as JSON.
    pub(super) json: bool,
    pools: Vec<Office>,
}

/// One database, and the consumer group whose letters are in it.
#[derive(Clone)]
pub(super) struct Office {
    pub(super) database: Database,
    pub(super) pool: PgPool,
    /// With the platform's prefix.
    group: String,
}

impl Desk {
    /// Prepares connections; the first use makes them.
    pub(super) fn open(platform: &Platform, json: bool) -> anyhow::Result<Self> {
        let office = |database: Database| -> anyhow::Result<Office> {
            // Not the whole error: it may show the URL.
            let options = PgConnectOptions::from_str(&platform.operator_url(database)?)
                .map_err(|_| anyhow::anyhow!("the URL of {} is not valid", database.name()))?
                .application_name("orderly dlq");
            let pool = PgPoolOptions::new().max_connections(2).acquire_timeout(CONNECT);
            let group = format!("{}{}", platform.prefix(), database.service());
            Ok(Office { database, pool: pool.connect_lazy_with(options), group })
        };
        Ok(Self { json, pools: Database::ALL.into_iter().map(office).collect::<anyhow::Result<_>>()? })
    }

    /// Every database in which these filters may find something, with what to ask there.
    pub(super) fn matching(&self, filters: &Filters) -> impl Iterator<Item = (&Office, Filter)> {
        let wanted = |office: &&Office| filters.is_of(office.database.service());
        self.pools.iter().filter(wanted).map(|office| (office, filters.within(&office.group)))
    }

    /// The same for letters that something is to be done with. Those that were named must be parked, and only where
    /// `replaying` may a replay have them.
    pub(super) async fn selected(
        &self,
        selection: &Selection,
        replaying: bool,
    ) -> anyhow::Result<Vec<(&Office, Filter)>> {
        if selection.ids.is_empty() {
            return Ok(self.matching(&selection.filters).collect());
        }
        let mut found: Vec<(&Office, Filter)> = Vec::new();
        for &id in &selection.ids {
            let (office, letter) = self.letter(id).await?;
            match (letter.state.as_str(), letter.replay) {
                ("parked", Some(replay)) if !replaying => {
                    bail!("{id} is in a replay already; `orderly dlq status {replay}` shows how far that is")
                }
                ("parked", _) => {}
                ("held", _) => bail!(
                    "{id} only waits behind a dead letter of its key, and follows by itself; `orderly dlq show {id}` names that one"
                ),
                (state, _) => bail!("{id} is {state} already; `orderly dlq show {id}` says by whom"),
            }
            match found.iter_mut().find(|(known, _)| known.database == office.database) {
                Some((_, filter)) => filter.ids.push(id),
                None => {
                    let mut filter = selection.filters.within(&office.group);
                    filter.ids.push(id);
                    found.push((office, filter));
                }
            }
        }
        Ok(found)
    }

    /// A letter in any state, and where it is.
    pub(super) async fn letter(&self, id: Uuid) -> anyhow::Result<(&Office, Letter)> {
        for office in &self.pools {
            let found = dead_letters::find(&office.pool, id).await.with_context(|| office.away())?;
            if let Some(letter) = found.filter(|letter| letter.consumer == office.group) {
                return Ok((office, letter));
            }
        }
        bail!("no dead letter has the id {id}; `orderly dlq list --ids` shows each that is open")
    }

    /// A replay in any state, and where it is.
    pub(super) async fn replay(&self, id: Uuid) -> anyhow::Result<(&Office, Progress)> {
        for office in &self.pools {
            let found = dead_letters::progress(&office.pool, &[id]).await.with_context(|| office.away())?;
            if let Some(progress) = found.into_iter().find(|progress| progress.consumer == office.group) {
                return Ok((office, progress));
            }
        }
        bail!("no replay has the id {id}; `orderly dlq status` shows those of the last day")
    }

    /// Puts data on stdout as one JSON value, where that is wanted. Whether it was.
    pub(super) fn print_json(&self, data: &impl Serialize) -> anyhow::Result<bool> {
        if self.json {
            output::data(serde_json::to_string_pretty(data)?)?;
        }
        Ok(self.json)
    }

    /// Every database.
    pub(super) fn all(&self) -> impl Iterator<Item = &Office> {
        self.pools.iter()
    }
}

impl Office {
    /// The consumer group as people say it.
    pub(super) fn consumer(&self) -> &'static str {
        self.database.service()
    }

    /// The consumer group as Kafka knows it.
    pub(super) fn group(&self) -> &str {
        &self.group
    }

    /// Says that the database does not answer, and what to do.
    pub(super) fn away(&self) -> String {
        let name = self.database.name();
        format!("the dead letters in {name} could not be reached; is the platform up, and migrated?")
    }
}
