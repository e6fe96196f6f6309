//! The tables: the view, the one that is built beside it, and the one that is kept.

use anyhow::Context as _;
use outbox::{Roles, quote_identifier};
use sqlx::{AssertSqlSafe, FromRow, PgConnection};

use crate::grants_on_orders;

/// The live view, as far as its table is more than its columns.
pub struct View {
    owner: String,
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
        let owner = "select relowner::regrole::text from pg_class where oid = 'orders'::regclass";
        let owner = sqlx::query_scalar(owner).fetch_one(&mut *connection).await.context("find the view")?;
        let indexes =
            sqlx::query_as(include_str!("../sql/rebuild/indexes.sql")).fetch_all(connection).await?;
        Ok(Self { owner, indexes })
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
    pub async fn lock_writers(&self, connection: &mut PgConnection) -> sqlx::Result<()> {
        // Everybody who writes waits behind this lock, also while it is waited for: so not for long. Services give up
        // after 10 s.
        let lock = "set local lock_timeout = '1s';
                    set local statement_timeout = '5s';
                    set local synchronous_commit = on;
                    lock table orders in exclusive mode";
        run(connection, lock.to_owned()).await
    }

    /// Puts the rebuilt table in the place of the view, in the transaction that has the lock.
    pub async fn swap(&self, connection: &mut PgConnection, roles: &Roles<'_>) -> anyhow::Result<()> {
        let (app, audit) = (quote_identifier(roles.app), quote_identifier(roles.audit));
        let mut swap = format!(
            "lock table orders in access exclusive mode;
             drop table if exists orders_before_rebuild;
             alter table orders rename to orders_before_rebuild;
             revoke all on orders_before_rebuild from {app}, {audit};"
        );
        for Index { name, .. } in &self.indexes {
            let (name, before) =
                (quote_identifier(name), quote_identifier(&format!("{name}_before_rebuild")));
            swap.push_str(&format!("alter index {name} rename to {before};"));
        }
        swap.push_str("alter table orders_rebuilt rename to orders;");
        for (number, Index { name, .. }) in self.indexes.iter().enumerate() {
            swap.push_str(&format!("alter index {} rename to {};", rebuilt(number), quote_identifier(name)));
        }
        swap.push_str(&grants_on_orders(&app, &audit));
        run(connection, swap).await.context("swap the tables")
    }

    /// A payment token is kept until its payment is asked for, and no longer: also in what is kept.
    pub async fn forget_tokens(&self, connection: &mut PgConnection) -> sqlx::Result<()> {
        let forget = "update orders_before_rebuild set payment_token = null where payment_token is not null";
        run(connection, forget.to_owned()).await
    }

    /// Drops what was rebuilt.
    pub async fn drop_rebuilt(&self, connection: &mut PgConnection) -> sqlx::Result<()> {
        run(connection, "drop table orders_rebuilt".to_owned()).await
    }

    /// Drops what a swap has kept.
    pub async fn drop_old(&self, connection: &mut PgConnection) -> sqlx::Result<()> {
        run(connection, "drop table if exists orders_before_rebuild".to_owned()).await
    }
}

fn rebuilt(number: usize) -> String {
    format!("orders_rebuilt_{number}")
}

async fn run(connection: &mut PgConnection, sql: String) -> sqlx::Result<()> {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await?;
    Ok(())
}
