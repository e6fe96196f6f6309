//! Prices: the catalogue's, checked by the order service without a call to inventory.

use anyhow::Context as _;
use cli::catalogue;
use proto::{
    inventory::v1::{ListProductsRequest, Product, UpdateProductRequest},
    money::v1::Money,
    order::v1::{CreateOrderRequest, Order},
};
use testkit::{Part, until};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::client::{Orders, SETTLE, inventory, mouse, offer, one, orders, platform};

fn euros(minor: i64) -> Money {
    Money { currency: "EUR".to_owned(), minor }
}

#[tokio::test]
async fn a_stale_price_is_refused_and_one_that_is_left_out_is_the_current_one() -> anyhow::Result<()> {
    let mut platform = platform().await?;
    let mut client = orders(&platform).await?;
    let refused =
        client.create_order(one("gaming-mouse", Some(euros(4_998)))).await.expect_err("another price");
    assert_price_changed(&refused, "4999");
    let order = bought(&mut client, one("gaming-mouse", None)).await?;
    assert_eq!(order.items[0].unit_price, Some(euros(4_999)));
    assert_eq!(order.total, Some(euros(4_999)));

    let refused = client.create_order(one("no-such-thing", None)).await.expect_err("not sold");
    assert_eq!(refused.code(), Code::NotFound);
    assert_eq!(
        refused.get_error_details().error_info().map(|info| info.reason.as_str()),
        Some("PRODUCT_NOT_FOUND")
    );

    // The order service's own view is enough.
    platform.kill(Part::Inventory)?;
    bought(&mut client, mouse("tok_ok")).await?;
    platform.restart(Part::Inventory).await
}

#[tokio::test]
async fn a_catalogue_that_is_loaded_again_stays_as_it_is() -> anyhow::Result<()> {
    let platform = platform().await?;
    bought(&mut orders(&platform).await?, mouse("tok_ok")).await?;
    let products = async || {
        let all = ListProductsRequest::default();
        anyhow::Ok(inventory(&platform).await?.list_products(all).await?.into_inner().products)
    };
    let before = products().await?;
    offer(&platform, &catalogue::offers()).await?;
    assert_eq!(products().await?, before);
    assert_eq!(before.len(), catalogue::offers().len());
    Ok(())
}

#[tokio::test]
async fn a_new_price_arrives_at_the_order_service() -> anyhow::Result<()> {
    let platform = platform().await?;
    let product =
        Product { product_id: "gaming-mouse".to_owned(), price: Some(euros(5_499)), ..Product::default() };
    let mask = prost_types::FieldMask { paths: vec!["price".to_owned()] };
    let update = UpdateProductRequest { product: Some(product), update_mask: Some(mask) };
    let updated = inventory(&platform).await?.update_product(update).await?.into_inner().product;
    let updated = updated.context("a product")?;
    assert_eq!((updated.price, updated.version), (Some(euros(5_499)), 2));

    let client = orders(&platform).await?;
    let order = until("the new price is taken", SETTLE, || {
        let mut client = client.clone();
        async move {
            match bought(&mut client, one("gaming-mouse", Some(euros(5_499)))).await {
                Ok(order) => Ok(Some(order)),
                Err(status) if status.code() == Code::FailedPrecondition => Ok(None),
                Err(status) => Err(status.into()),
            }
        }
    })
    .await?;
    assert_eq!(order.total, Some(euros(5_499)));
    let refused = client.clone().create_order(mouse("tok_ok")).await.expect_err("the old price");
    assert_price_changed(&refused, "5499");
    Ok(())
}

async fn bought(client: &mut Orders, request: CreateOrderRequest) -> Result<Order, Status> {
    let order = client.create_order(request).await?.into_inner().order;
    order.ok_or_else(|| Status::internal("the answer has no order"))
}

/// The answer says which price is right.
fn assert_price_changed(status: &Status, minor: &str) {
    assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
    let details = status.get_error_details();
    let info = details.error_info().map(|info| (info.reason.as_str(), info.metadata.get("minor")));
    assert_eq!(info, Some(("PRICE_CHANGED", Some(&minor.to_owned()))), "{status}");
}
