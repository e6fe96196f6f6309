//! gRPC: the catalogue and its stock as callers see them, with every violation named.

use proto::inventory::v1::{
    self as wire, AdjustStockRequest, AdjustStockResponse, CreateProductRequest, CreateProductResponse,
    GetProductRequest, GetProductResponse, GetStockRequest, GetStockResponse, ListProductsRequest,
    ListProductsResponse, UpdateProductRequest, UpdateProductResponse,
    inventory_service_server::InventoryService,
};
use service::{page, status::Violations};
use time::OffsetDateTime;
use tonic::{Request, Response, Status};

use crate::{
    app::{Catalogue, to_proto},
    domain::{Change, MAX_ON_HAND, Money, NO_CURRENCY, Product, ProductId, Stock, is_text},
    store::products::{Adjustment, Filter},
};

/// The longest text that products are looked for by, in bytes.
const MAX_QUERY: usize = 200;
/// What of a product can be changed.
const PATHS: [&str; 3] = ["name", "price", "archived"];
/// All of them (AIP-134).
const EVERYTHING: &str = "*";

/// The service's gRPC surface.
#[derive(Clone, Debug)]
pub struct Api(pub Catalogue);

#[tonic::async_trait]
impl InventoryService for Api {
    async fn create_product(
        &self,
        request: Request<CreateProductRequest>,
    ) -> Result<Response<CreateProductResponse>, Status> {
        let CreateProductRequest { product, initial_stock } = request.into_inner();
        let mut violations = Violations::default();
        let product = required(&mut violations, product);
        let product_id = product_id(&mut violations, "product.product_id", &product.product_id);
        let (name, price) = (name(&mut violations, &product), price(&mut violations, &product));
        if !(0..=MAX_ON_HAND).contains(&initial_stock) {
            violations.add("initial_stock", format!("must be 0 to {MAX_ON_HAND}"));
        }
        let product_id = valid(violations, product_id)?;
        let product = Product {
            id: product_id,
            name,
            price,
            archived: product.archived,
            version: 1,
            // The database's clock sets both.
            created_at: OffsetDateTime::UNIX_EPOCH,
            updated_at: OffsetDateTime::UNIX_EPOCH,
        };
        let product = self.0.create(product, initial_stock).await?;
        Ok(Response::new(CreateProductResponse { product: Some(show(product)) }))
    }

    async fn update_product(
        &self,
        request: Request<UpdateProductRequest>,
    ) -> Result<Response<UpdateProductResponse>, Status> {
        let UpdateProductRequest { product, update_mask } = request.into_inner();
        let paths = update_mask.unwrap_or_default().paths;
        let mut violations = Violations::default();
        let product = required(&mut violations, product);
        let product_id = product_id(&mut violations, "product.product_id", &product.product_id);
        if paths.iter().any(|path| path != EVERYTHING && !PATHS.contains(&path.as_str())) {
            violations.add("update_mask", "must be of name, price and archived");
        }
        let wanted =
            |path: &str| paths.is_empty() || paths.iter().any(|named| named == path || named == EVERYTHING);
        let change = Change {
            name: wanted("name").then(|| name(&mut violations, &product)),
            price: wanted("price").then(|| price(&mut violations, &product)),
            archived: wanted("archived").then_some(product.archived),
        };
        let product_id = valid(violations, product_id)?;
        let product = self.0.update(&product_id, change).await?;
        Ok(Response::new(UpdateProductResponse { product: Some(show(product)) }))
    }

    async fn get_product(
        &self,
        request: Request<GetProductRequest>,
    ) -> Result<Response<GetProductResponse>, Status> {
        let mut violations = Violations::default();
        let product_id = product_id(&mut violations, "product_id", &request.get_ref().product_id);
        let product_id = valid(violations, product_id)?;
        let product = self.0.product(&product_id).await?;
        Ok(Response::new(GetProductResponse { product: Some(show(product)) }))
    }

    async fn list_products(
        &self,
        request: Request<ListProductsRequest>,
    ) -> Result<Response<ListProductsResponse>, Status> {
        let ListProductsRequest { query, show_archived, page_size, page_token } = request.into_inner();
        let mut violations = Violations::default();
        if query.len() > MAX_QUERY || query.contains('\0') {
            violations.add("query", format!("must be at most {MAX_QUERY} bytes without a zero byte"));
        }
        let size = page::size(&mut violations, page_size);
        let filter_key = (&query, show_archived);
        let after: Option<ProductId> = page::after(&mut violations, &page_token, &filter_key);
        violations.into_result()?;
        let filter = Filter { query: query.clone(), show_archived };
        let mut products = self.0.products(&filter, after.as_ref(), size + 1).await?;
        let next_page_token = page::cut(&mut products, size, &filter_key, |product| product.id.clone());
        Ok(Response::new(ListProductsResponse {
            products: products.into_iter().map(show).collect(),
            next_page_token,
        }))
    }

    async fn adjust_stock(
        &self,
        request: Request<AdjustStockRequest>,
    ) -> Result<Response<AdjustStockResponse>, Status> {
        let AdjustStockRequest { product_id: id, delta, reason, request_id } = request.into_inner();
        let mut violations = Violations::default();
        let product_id = product_id(&mut violations, "product_id", &id);
        if delta == 0 {
            violations.add("delta", "must not be 0");
        }
        if !is_text(&reason) {
            violations.add("reason", "must be 1 to 200 characters, none of them a control character");
        }
        let request_id = violations.uuid("request_id", &request_id);
        let product_id = valid(violations, product_id)?;
        let adjustment = Adjustment { id: request_id, product_id, delta, reason };
        let stock = self.0.adjust(&adjustment).await?;
        Ok(Response::new(AdjustStockResponse { stock: Some(show_stock(&adjustment.product_id, stock)) }))
    }

    async fn get_stock(
        &self,
        request: Request<GetStockRequest>,
    ) -> Result<Response<GetStockResponse>, Status> {
        let mut violations = Violations::default();
        let product_id = product_id(&mut violations, "product_id", &request.get_ref().product_id);
        let product_id = valid(violations, product_id)?;
        let stock = self.0.stock(&product_id).await?;
        Ok(Response::new(GetStockResponse { stock: Some(show_stock(&product_id, stock)) }))
    }
}

fn required(violations: &mut Violations, product: Option<wire::Product>) -> wire::Product {
    product.unwrap_or_else(|| {
        violations.add("product", "is required");
        wire::Product::default()
    })
}

/// The id in a field, or a violation that names it.
fn product_id(violations: &mut Violations, field: &str, text: &str) -> Option<ProductId> {
    text.parse()
        .map_err(|error: crate::domain::InvalidProductId| violations.add(field, error.to_string()))
        .ok()
}

/// The id, once nothing is wrong with the request.
fn valid(violations: Violations, product_id: Option<ProductId>) -> Result<ProductId, Status> {
    violations.into_result()?;
    product_id.ok_or_else(|| Status::internal("a violation was lost"))
}

fn name(violations: &mut Violations, product: &wire::Product) -> String {
    if !is_text(&product.name) {
        violations.add("product.name", "must be 1 to 200 characters, none of them a control character");
    }
    product.name.clone()
}

fn price(violations: &mut Violations, product: &wire::Product) -> Money {
    let Some(price) = product.price.clone() else {
        violations.add("product.price", "is required");
        return Money { currency: NO_CURRENCY.to_owned(), minor: 0 };
    };
    let price = Money { currency: price.currency, minor: price.minor };
    if !price.has_currency() {
        violations.add("product.price.currency", "must be three capital letters, and not XXX");
    }
    if price.minor < 1 {
        violations.add("product.price.minor", "must be at least 1");
    }
    price
}

fn show(product: Product) -> wire::Product {
    wire::Product {
        product_id: product.id.to_string(),
        name: product.name,
        price: Some(to_proto(&product.price)),
        archived: product.archived,
        version: product.version,
        create_time: Some(timestamp(product.created_at)),
        update_time: Some(timestamp(product.updated_at)),
    }
}

fn show_stock(product_id: &ProductId, stock: Stock) -> wire::Stock {
    wire::Stock {
        product_id: product_id.to_string(),
        on_hand: stock.on_hand(),
        reserved: stock.reserved,
        available: stock.available,
    }
}

fn timestamp(time: OffsetDateTime) -> prost_types::Timestamp {
    // Below 1,000,000,000 by its definition.
    prost_types::Timestamp { seconds: time.unix_timestamp(), nanos: time.nanosecond() as i32 }
}
