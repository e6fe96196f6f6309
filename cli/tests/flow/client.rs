//! What customers do, and those who fill the warehouse.

use std::time::Duration;

use cli::{
    catalogue::{self, Offer},
    credentials::AUDIT,
};
use proto::{
    inventory::v1::{GetStockRequest, Stock, inventory_service_client::InventoryServiceClient},
    money::v1::Money,
    notification::v1::{
        ListNotificationsRequest, NotificationKind, NotificationStatus,
        notification_service_client::NotificationServiceClient,
    },
    order::v1::{
        CancelOrderRequest, CreateOrderRequest, GetOrderRequest, GetOrderResponse, Order, OrderItem,
        OrderStatus, order_service_client::OrderServiceClient,
    },
};
use sqlx::PgPool;
use testkit::{Part, Platform, Servers, until};
use tonic::{
    Code,
    transport::{Channel, Endpoint},
};

/// How long an order may take to its end, whatever was restarted meanwhile.
pub const SETTLE: Duration = Duration::from_secs(60);

/// A connection to the order service.
pub type Orders = OrderServiceClient<Channel>;
/// A connection to inventory.
pub type Inventory = InventoryServiceClient<Channel>;

/// The services of every platform.
struct Services;

impl testkit::Services for Services {
    type Order = order::OrderService;
    type Inventory = inventory::Inventory;
    type Billing = billing::Billing;
    type Notification = notification::Notification;
}

/// A platform of this test's own, with the demo catalogue.
pub async fn platform() -> anyhow::Result<Platform> {
    platform_on(testkit::servers().await?.clone()).await
}

/// The same on these servers.
pub async fn platform_on(servers: Servers) -> anyhow::Result<Platform> {
    let platform = Platform::start::<Services>(servers).await?;
    offer(&platform, &catalogue::offers()).await?;
    Ok(platform)
}

/// Puts products on sale, as `orderly up` does, and waits until they can be ordered.
pub async fn offer(platform: &Platform, offers: &[Offer]) -> anyhow::Result<()> {
    let orders = PgPool::connect(&platform.order.url(AUDIT)).await?;
    catalogue::load(&platform.grpc(Part::Inventory), &orders, offers).await?;
    orders.close().await;
    Ok(())
}

/// One mouse, paid with this token.
pub fn mouse(token: &str) -> CreateOrderRequest {
    let price = Money { currency: "EUR".to_owned(), minor: 4_999 };
    CreateOrderRequest { payment_token: token.to_owned(), ..one("gaming-mouse", Some(price)) }
}

/// One of a product, at the price that the customer has seen.
pub fn one(product: &str, unit_price: Option<Money>) -> CreateOrderRequest {
    CreateOrderRequest {
        customer_id: "cust-1".to_owned(),
        items: vec![OrderItem { product_id: product.to_owned(), quantity: 1, unit_price }],
        payment_token: "tok_ok".to_owned(),
        request_id: String::new(),
    }
}

/// The order service, as a caller sees it.
pub async fn orders(platform: &Platform) -> anyhow::Result<Orders> {
    Ok(OrderServiceClient::new(channel(platform, Part::Order).await?))
}

/// Inventory, as whoever fills the warehouse sees it.
pub async fn inventory(platform: &Platform) -> anyhow::Result<Inventory> {
    Ok(InventoryServiceClient::new(channel(platform, Part::Inventory).await?))
}

/// Units of a product.
pub async fn stock(platform: &Platform, product: &str) -> anyhow::Result<Stock> {
    let request = GetStockRequest { product_id: product.to_owned() };
    let stock = inventory(platform).await?.get_stock(request).await?.into_inner().stock;
    stock.ok_or_else(|| anyhow::anyhow!("the answer has no stock"))
}

/// Places an order.
pub async fn place(platform: &Platform, token: &str) -> anyhow::Result<Order> {
    let placed = orders(platform).await?.create_order(mouse(token)).await?.into_inner();
    placed.order.ok_or_else(|| anyhow::anyhow!("the answer has no order"))
}

/// Places an order with a request id, and sends it again until it is accepted.
pub async fn insist(client: Orders, request: CreateOrderRequest) -> anyhow::Result<Order> {
    until("the order is accepted", SETTLE, || {
        let (mut client, request) = (client.clone(), request.clone());
        async move {
            match client.create_order(request).await {
                Ok(answer) => Ok(answer.into_inner().order),
                Err(status) if status.code() == Code::Unavailable => Ok(None),
                Err(status) => Err(status.into()),
            }
        }
    })
    .await
}

/// Cancels an order.
pub async fn cancel(platform: &Platform, order_id: &str) -> anyhow::Result<()> {
    let request = CancelOrderRequest { order_id: order_id.to_owned() };
    orders(platform).await?.cancel_order(request).await?;
    Ok(())
}

/// Waits until an order has this status.
pub async fn reached(
    platform: &Platform,
    order_id: &str,
    status: OrderStatus,
) -> anyhow::Result<GetOrderResponse> {
    when(platform, order_id, &format!("is {status:?}"), |order| order.status() == status).await
}

/// Waits until an order is confirmed and its shipment is scheduled, which is the end of every order that goes well.
pub async fn shipped(platform: &Platform, order_id: &str) -> anyhow::Result<GetOrderResponse> {
    let shipped = |order: &Order| order.status() == OrderStatus::Confirmed && order.shipment.is_some();
    when(platform, order_id, "is shipped", shipped).await
}

/// Waits until this is true of an order.
async fn when(
    platform: &Platform,
    order_id: &str,
    what: &str,
    is: impl Fn(&Order) -> bool,
) -> anyhow::Result<GetOrderResponse> {
    until(&format!("order {order_id} {what}"), SETTLE, || async {
        let request = GetOrderRequest { order_id: order_id.to_owned() };
        let answer = orders(platform).await?.get_order(request).await?.into_inner();
        let there = answer.order.as_ref().is_some_and(&is);
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
