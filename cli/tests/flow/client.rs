//! What a customer does.

use std::time::Duration;

use billing::Billing;
use notification::Notification;
use order::OrderService;
use proto::{
    money::v1::Money,
    notification::v1::{
        ListNotificationsRequest, NotificationKind, NotificationStatus,
        notification_service_client::NotificationServiceClient,
    },
    order::v1::{
        CreateOrderRequest, GetOrderRequest, GetOrderResponse, Order, OrderItem, OrderStatus,
        order_service_client::OrderServiceClient,
    },
};
use testkit::{Part, Platform, until};
use tonic::transport::{Channel, Endpoint};

/// How long an order may take to its end, whatever was restarted meanwhile.
pub const SETTLE: Duration = Duration::from_secs(60);

/// A platform of this test's own.
pub async fn platform() -> anyhow::Result<Platform> {
    Platform::start::<OrderService, Billing, Notification>().await
}

/// One mouse, paid with this token.
pub fn mouse(token: &str) -> CreateOrderRequest {
    CreateOrderRequest {
        customer_id: "cust-1".to_owned(),
        items: vec![OrderItem {
            product_id: "gaming-mouse".to_owned(),
            quantity: 1,
            unit_price: Some(Money { currency: "EUR".to_owned(), minor: 4_999 }),
        }],
        payment_token: token.to_owned(),
        request_id: String::new(),
    }
}

/// The order service, as a caller sees it.
pub async fn orders(platform: &Platform) -> anyhow::Result<OrderServiceClient<Channel>> {
    Ok(OrderServiceClient::new(channel(platform, Part::Order).await?))
}

/// Places an order.
pub async fn place(platform: &Platform, token: &str) -> anyhow::Result<Order> {
    let placed = orders(platform).await?.create_order(mouse(token)).await?.into_inner();
    placed.order.ok_or_else(|| anyhow::anyhow!("the answer has no order"))
}

/// Waits until an order has this status.
pub async fn reached(
    platform: &Platform,
    order_id: &str,
    status: OrderStatus,
) -> anyhow::Result<GetOrderResponse> {
    until(&format!("order {order_id} is {status:?}"), SETTLE, || async {
        let request = GetOrderRequest { order_id: order_id.to_owned() };
        let answer = orders(platform).await?.get_order(request).await?.into_inner();
        let there = answer.order.as_ref().is_some_and(|order| order.status() == status);
        Ok(there.then_some(answer))
    })
    .await
}

/// Waits until so many notifications of an order are delivered; their kinds, sorted.
pub async fn told(
    platform: &Platform,
    order_id: &str,
    count: usize,
) -> anyhow::Result<Vec<NotificationKind>> {
    until(&format!("{count} notifications of order {order_id}"), SETTLE, || async {
        let mut client = NotificationServiceClient::new(channel(platform, Part::Notification).await?);
        let request = ListNotificationsRequest { order_id: order_id.to_owned(), ..Default::default() };
        let listed = client.list_notifications(request).await?.into_inner().notifications;
        let delivered = listed.iter().filter(|one| one.status() == NotificationStatus::Delivered).count();
        let mut kinds: Vec<NotificationKind> = listed.iter().map(|one| one.kind()).collect();
        kinds.sort();
        Ok((delivered >= count).then_some(kinds))
    })
    .await
}

/// A connection to a service.
pub async fn channel(platform: &Platform, part: Part) -> anyhow::Result<Channel> {
    Ok(Endpoint::from_shared(platform.grpc(part))?.connect().await?)
}
