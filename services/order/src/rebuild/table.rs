//! The tables: the view, the one that is built beside it, and the one that is kept.

use std::collections::BTreeSet;

use anyhow::Context as _;
use outbox::{Roles, quote_identifier};
use sqlx::{AssertSqlSafe, FromRow, PgConnection};

use super::bound::Bound;
use crate::grants_on_orders;

/// The live view, as far as its table is more than its columns.
pub struct View {
    owner: String,
    /// Every part that it is made of, in words, and the newest migration.
    made: BTreeSet<String>,
    indexes: Vec<Index>,
}

#[derive(FromRow)]
struct Index {
    name: String,
    /// `PRIMARY KEY (order_id)`; none where it is only an index.
    rule: Option<String>,
    /// What follows the table's name in `create index`.
    definition: String,
    is_unique: bool,
}

impl View {
    /// Reads how the live view is made.
    pub async fn read(connection: &mut PgConnection) -> anyhow::Result<Self> {
        // First: what changes from here on is a change.
        let made = made(connection).await.context("find the view")?;
        let owner = "select relowner::regrole::text from pg_class where oid = 'orders'::regclass";
        let owner = sqlx::query_scalar(owner).fetch_one(&mut *connection).await?;
        let indexes =
            sqlx::query_as(include_str!("../sql/rebuild/indexes.sql")).fetch_all(connection).await?;
        Ok(Self { owner, made, indexes })
    }

    /// Refuses a view that is no longer made as it was read, by a migration that ran meanwhile: a swap would undo it.
    pub async fn is_as_it_was(&self, connection: &mut PgConnection) -> anyhow::Result<()> {
        let now = made(connection).await?;
        let changes: Vec<&str> = self.made.symmetric_difference(&now).map(String::as_str).collect();
        anyhow::ensure!(
            changes.is_empty(),
            "the view was changed while it was rebuilt, and nothing was swapped; rebuild again after the migration: {}",
            changes.join(", ")
        );
        Ok(())
    }

    /// Refuses a view with something that a swap would lose: a migration that adds it adds it here, too.
    pub async fn is_all_there_is(&self, connection: &mut PgConnection) -> anyhow::Result<()> {
        let others: Vec<String> =
            sqlx::query_scalar(include_str!("../sql/rebuild/attachments.sql")).fetch_all(connection).await?;
        anyhow::ensure!(others.is_empty(), "a swap would lose what hangs on orders: {}", others.join(", "));
        Ok(())
    }

    /// Makes an empty table with the view's columns, in their order, and with their checks. Statements that the running
    /// service has prepared stay valid: they give the same columns.
    pub async fn create(&self, connection: &mut PgConnection) -> sqlx::Result<()> {
        let owner = &self.owner;
        let create = format!(
            "drop table if exists orders_rebuilt;
             create table orders_rebuilt (like orders including all excluding indexes);
             alter table orders_rebuilt owner to {owner};"
        );
        run(connection, create).await
    }

    /// Gives the table the view's indexes, and the planner its statistics.
    pub async fn index(&self, connection: &mut PgConnection) -> sqlx::Result<()> {
        for (number, index) in self.indexes.iter().enumerate() {
            let name = rebuilt(number);
            let create = match &index.rule {
                Some(rule) => format!("alter table orders_rebuilt add constraint {name} {rule}"),
                None => {
                    let unique = if index.is_unique { "unique" } else { "" };
                    format!("create {unique} index {name} on orders_rebuilt {}", index.definition)
                }
            };
            run(connection, create).await?;
        }
        run(connection, "vacuum (analyze) orders_rebuilt".to_owned()).await
    }

    /// Lets no writer in any more, and waits for those that are there. Who only reads goes on.
    pub async fn lock_writers(&self, connection: &mut PgConnection, bound: Bound) -> sqlx::Result<()> {
        bound.set(connection).await?;
        // Everybody who writes waits behind this lock, also while it is waited for: so not for long.
        let lock = "set local lock_timeout = '1s';
                    set local synchronous_commit = on;
                    lock table orders in exclusive mode";
        run(connection, lock.to_owned()).await
    }

    /// Puts the rebuilt table in the place of the view, in the transaction that has the lock.
    pub async fn swap(
        &self,
        connection: &mut PgConnection,
        roles: &Roles<'_>,
        bound: Bound,
    ) -> anyhow::Result<()> {
        bound.set(connection).await?;
        run(connection, "drop table if exists orders_before_rebuild".to_owned()).await?;
        bound.set(connection).await?;
        run(connection, "lock table orders in access exclusive mode".to_owned()).await?;
        // A view or a publication could come until now.
        self.is_all_there_is(connection).await?;
        let (app, audit) = (quote_identifier(roles.app), quote_identifier(roles.audit));
        let mut swap = format!(
            "alter table orders rename to orders_before_rebuild;
             revoke all on orders_before_rebuild from {app}, {audit};"
        );
        for Index { name, .. } in &self.indexes {
            let (name, before) =
                (quote_identifier(name), quote_identifier(&format!("{name}_before_rebuild")));
            swap.push_str(&format!("alter index {name} rename to {before};"));
        }
        // A payment token is kept until its payment is asked for, and no longer: also in what is kept.
        swap.push_str("alter table orders_before_rebuild drop column if exists payment_token;");
        swap.push_str("alter table orders_rebuilt rename to orders;");
        for (number, Index { name, .. }) in self.indexes.iter().enumerate() {
            swap.push_str(&format!("alter index {} rename to {};", rebuilt(number), quote_identifier(name)));
        }
        swap.push_str(&grants_on_orders(&app, &audit));
        bound.set(connection).await?;
        run(connection, swap).await.context("swap the tables")
    }

    /// Drops what a swap has kept.
    pub async fn drop_old(&self, connection: &mut PgConnection) -> sqlx::Result<()> {
        run(connection, "drop table if exists orders_before_rebuild".to_owned()).await
    }
}

/// Drops what was rebuilt.
pub async fn drop_rebuilt(connection: &mut PgConnection) -> sqlx::Result<()> {
    run(connection, "drop table if exists orders_rebuilt".to_owned()).await
}

async fn made(connection: &mut PgConnection) -> sqlx::Result<BTreeSet<String>> {
    let made: Vec<String> =
        sqlx::query_scalar(include_str!("../sql/rebuild/made.sql")).fetch_all(connection).await?;
    Ok(made.into_iter().collect())
}

fn rebuilt(number: usize) -> String {
    format!("orders_rebuilt_{number}")
}

async fn run(connection: &mut PgConnection, sql: String) -> sqlx::Result<()> {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await?;
    Ok(())
}
