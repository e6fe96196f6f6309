//! The use cases of the catalogue and its stock. Each owns one transaction: domain rows first, events last.

use std::time::Duration;

use outbox::{Event, Source, UnitOfWork};
use proto::{inventory::v1::ProductUpserted, money::v1 as money};
use sqlx::PgPool;
use uuid::Uuid;

use crate::{
    domain::{BUCKETS, Change, Money, Product, ProductId, Stock, count, share},
    error::Error,
    store::{
        products::{self, Adjustment, Filter},
        stock::{self, Bucket},
    },
};

/// Logical topic of the catalogue.
pub const PRODUCT_EVENTS: &str = "product-events";
/// Who speaks.
pub const SOURCE: Source = Source::new("/orderly/inventory");

/// Products that are announced again in one transaction.
const ANNOUNCED_TOGETHER: i64 = 100;
/// Why the first units are there.
const INITIAL_STOCK: &str = "initial stock";

/// The catalogue and its stock.
#[derive(Clone, Debug)]
pub struct Catalogue {
    pub(crate) pool: PgPool,
}

impl Catalogue {
    /// The catalogue in this database.
    pub fn new(pool: PgPool) -> Self {
        Self { pool }
    }

    /// Adds a product with its first stock. Its version and times are set here.
    pub async fn create(&self, mut product: Product, initial_stock: i64) -> Result<Product, Error> {
        let mut work = UnitOfWork::begin(&self.pool).await?;
        product.version = 1;
        if !products::insert(&mut work, &mut product).await? {
            return Err(Error::Exists(product.id));
        }
        stock::insert(&mut work, &product.id, &share(initial_stock, BUCKETS as usize)).await?;
        if initial_stock != 0 {
            let adjustment = Adjustment {
                id: Uuid::now_v7(),
                product_id: product.id.clone(),
                delta: initial_stock,
                reason: INITIAL_STOCK.to_owned(),
            };
            products::insert_adjustment(&mut work, &adjustment).await?;
        }
        work.commit(vec![upserted(&product)]).await?;
        Ok(product)
    }

    /// Changes a product, and tells of it even where nothing is different.
    pub async fn update(&self, product_id: &ProductId, change: Change) -> Result<Product, Error> {
        let mut work = UnitOfWork::begin(&self.pool).await?;
        let locked = products::lock(&mut work, product_id).await?;
        let mut product = locked.ok_or_else(|| Error::NotFound(product_id.clone()))?;
        let version = product.version;
        product.change(change);
        products::save(&mut work, version, &mut product).await?;
        work.commit(vec![upserted(&product)]).await?;
        Ok(product)
    }

    /// Reads one product.
    pub async fn product(&self, product_id: &ProductId) -> Result<Product, Error> {
        let found = products::find(&self.pool, product_id).await?;
        found.ok_or_else(|| Error::NotFound(product_id.clone()))
    }

    /// At most `limit` products by id, those after `after`.
    pub async fn products(
        &self,
        filter: &Filter,
        after: Option<&ProductId>,
        limit: i64,
    ) -> Result<Vec<Product>, Error> {
        Ok(products::list(&self.pool, filter, after, limit).await?)
    }

    /// Counts units in or out, once per adjustment id. Answers with the stock as it is then.
    pub async fn adjust(&self, adjustment: &Adjustment) -> Result<Stock, Error> {
        let product_id = &adjustment.product_id;
        let mut work = UnitOfWork::begin(&self.pool).await?;
        let locked = stock::lock(&mut work, product_id).await?;
        let stock = locked.ok_or_else(|| Error::NotFound(product_id.clone()))?;
        if !products::insert_adjustment(&mut work, adjustment).await? {
            let known = products::find_adjustment(&mut work, adjustment.id).await?;
            let repeated = known.as_ref() == Some(adjustment);
            return if repeated { Ok(stock) } else { Err(Error::RequestIdReused(adjustment.id)) };
        }
        let stock = count(stock, adjustment.delta)?;
        let buckets: Vec<Bucket> = (0..BUCKETS)
            .zip(share(stock.available, BUCKETS as usize))
            .map(|(bucket, available)| Bucket { product_id: product_id.clone(), bucket, available })
            .collect();
        stock::put(&mut work, &buckets).await?;
        work.commit(vec![]).await?;
        tracing::info!(
            %product_id, delta = adjustment.delta, reason = adjustment.reason, on_hand = stock.on_hand(), "stock adjusted"
        );
        Ok(stock)
    }

    /// Reads the stock of one product.
    pub async fn stock(&self, product_id: &ProductId) -> Result<Stock, Error> {
        let found = stock::find(&self.pool, product_id).await?;
        found.ok_or_else(|| Error::NotFound(product_id.clone()))
    }

    /// Announces again, each as a new version, at most 100 products that were last announced so long ago. Says how many
    /// there were, and whether there may be more.
    pub async fn announce(&self, announced_before: Duration) -> Result<(usize, bool), outbox::Error> {
        let mut work = UnitOfWork::begin(&self.pool).await?;
        let due = products::renew(&mut work, announced_before, ANNOUNCED_TOGETHER).await?;
        work.commit(due.iter().map(upserted).collect()).await?;
        Ok((due.len(), due.len() as i64 == ANNOUNCED_TOGETHER))
    }
}

/// The product as it is, for everybody who keeps a view of the catalogue.
fn upserted(product: &Product) -> Event {
    let message = ProductUpserted {
        product_id: product.id.to_string(),
        name: product.name.clone(),
        price: Some(to_proto(&product.price)),
        archived: product.archived,
        version: product.version,
    };
    SOURCE.event(PRODUCT_EVENTS, &product.id, product.version, &message)
}

/// Money as others read it.
pub fn to_proto(money: &Money) -> money::Money {
    money::Money { currency: money.currency.clone(), minor: money.minor }
}
