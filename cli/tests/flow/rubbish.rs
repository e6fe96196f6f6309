//! What callers get wrong: a clear error that names it, and no order.

use cli::catalogue::Offer;
use proto::{
    money::v1::Money,
    order::v1::{CreateOrderRequest, CreateOrderResponse, ListOrdersRequest, OrderStatus},
};
use testkit::Part;
use tonic::{Code, codegen::http::uri::PathAndQuery};
use tonic_types::StatusExt as _;
use uuid::Uuid;

use crate::client::{channel, mouse, offer, one, orders, platform};

/// Two of them cost more than can be counted.
const YACHT: Offer = Offer { id: "yacht", name: "Yacht", minor: i64::MAX, units: 2 };

#[tokio::test]
async fn every_wrong_field_is_named_and_nothing_is_ordered() -> anyhow::Result<()> {
    let platform = platform().await?;
    offer(&platform, &[YACHT]).await?;
    let mut client = orders(&platform).await?;
    let with = |change: fn(&mut CreateOrderRequest)| {
        let mut request = mouse("tok_ok");
        change(&mut request);
        request
    };
    let table = [
        (with(|r| r.customer_id.clear()), "customer_id"),
        (with(|r| r.items.clear()), "items"),
        (with(|r| r.items = vec![r.items[0].clone(); 1_001]), "items"),
        (with(|r| r.items[0].quantity = 0), "items[0].quantity"),
        (with(|r| r.items[0].quantity = -1), "items[0].quantity"),
        (with(|r| r.items[0].product_id = "no spaces".into()), "items[0].product_id"),
        (with(|r| r.items[0].unit_price = in_currency("euro")), "items[0].unit_price.currency"),
        (with(|r| r.items = vec![one(YACHT.id, None).items[0].clone(); 2]), "items"),
        (with(|r| r.request_id = "no uuid".into()), "request_id"),
    ];
    for (request, field) in table {
        let status = client.create_order(request).await.expect_err(field);
        assert_eq!(status.code(), Code::InvalidArgument, "{field}");
        let details = status.get_error_details();
        assert_eq!(details.error_info().map(|info| info.reason.as_str()), Some("INVALID_FIELD"));
        let named = details.bad_request().map(|bad| bad.field_violations[0].field.clone());
        assert_eq!(named.as_deref(), Some(field));
    }
    // 10 MB are over the size limit before anything is parsed.
    let huge = with(|r| r.customer_id = "x".repeat(10_000_000));
    assert_eq!(client.create_order(huge).await.expect_err("too large").code(), Code::OutOfRange);
    let unknown = ListOrdersRequest { status: 99, ..Default::default() };
    assert_eq!(client.list_orders(unknown).await.expect_err("unknown").code(), Code::InvalidArgument);
    let none = client.list_orders(ListOrdersRequest::default()).await?.into_inner();
    assert!(none.orders.is_empty(), "{none:?}");
    assert!(!platform.log(Part::Order)?.contains("tok_"), "a token was logged");
    Ok(())
}

#[tokio::test]
async fn a_request_id_makes_one_order() -> anyhow::Result<()> {
    let platform = platform().await?;
    let mut client = orders(&platform).await?;
    let request = CreateOrderRequest { request_id: Uuid::new_v4().to_string(), ..mouse("tok_ok") };
    let first = client.create_order(request.clone()).await?.into_inner();
    let again = client.create_order(request.clone()).await?.into_inner();
    let ids = [first, again].map(|answer| answer.order.map(|order| order.order_id));
    assert_eq!(ids[0], ids[1]);
    for other in [
        CreateOrderRequest { payment_token: "tok_declined".into(), ..request.clone() },
        CreateOrderRequest { items: vec![mouse("").items[0].clone(); 2], ..request.clone() },
    ] {
        let status = client.create_order(other).await.expect_err("another body");
        assert_eq!(status.code(), Code::AlreadyExists);
    }
    assert_eq!(client.list_orders(ListOrdersRequest::default()).await?.into_inner().orders.len(), 1);
    Ok(())
}

/// What a client of a later version sends.
#[derive(Clone, PartialEq, prost::Message)]
struct LaterRequest {
    #[prost(string, tag = "1")]
    customer_id: String,
    #[prost(message, repeated, tag = "2")]
    items: Vec<proto::order::v1::OrderItem>,
    #[prost(string, tag = "999")]
    gift_note: String,
}

/// The rule of protobuf: what a server does not know, it ignores, so that clients can be newer.
#[tokio::test]
async fn a_field_that_this_version_does_not_know_is_ignored() -> anyhow::Result<()> {
    let platform = platform().await?;
    let request = mouse("");
    let later = LaterRequest {
        customer_id: request.customer_id,
        items: request.items,
        gift_note: "for you".to_owned(),
    };
    let mut client = tonic::client::Grpc::new(channel(&platform, Part::Order).await?);
    client.ready().await?;
    let codec = tonic_prost::ProstCodec::<LaterRequest, CreateOrderResponse>::default();
    let path = PathAndQuery::from_static("/orderly.order.v1.OrderService/CreateOrder");
    let answer = client.unary(tonic::Request::new(later), path, codec).await?.into_inner();
    let order = answer.order.ok_or_else(|| anyhow::anyhow!("no order"))?;
    assert_eq!(order.status(), OrderStatus::Pending);
    Ok(())
}

fn in_currency(code: &str) -> Option<Money> {
    Some(Money { currency: code.to_owned(), minor: 4_999 })
}
