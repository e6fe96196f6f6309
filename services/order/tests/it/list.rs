//! `ListOrders`: pages that show each order once, the newest first.

use prost::Message as _;
use proto::order::v1::{ListOrdersRequest, ListOrdersResponse, OrderStatus};
use tonic::Status;
use uuid::Uuid;

use crate::scene::{CUSTOMER, Client, Scene, body, create, fields, id};

async fn list(api: &Client, request: &ListOrdersRequest) -> Result<ListOrdersResponse, Status> {
    Ok(api.clone().list_orders(request.clone()).await?.into_inner())
}

fn page_of(page_size: i32) -> ListOrdersRequest {
    ListOrdersRequest { page_size, ..Default::default() }
}

fn ids(page: &ListOrdersResponse) -> anyhow::Result<Vec<Uuid>> {
    Ok(page.orders.iter().map(id).collect::<Result<_, _>>()?)
}

/// Orders as they lie in the table, without the cost of placing each. Returns their ids, the oldest first.
async fn stored(scene: &Scene, count: usize) -> anyhow::Result<Vec<Uuid>> {
    let ids: Vec<Uuid> = (0..count).map(|_| Uuid::now_v7()).collect();
    sqlx::query(
        "insert into orders (order_id, customer_id, status, version, items, currency, total_minor, payment_id,
                             stock, payment, created_at, updated_at)
         select id, $2, 'PENDING', 1, '[]', 'EUR', 1, id, 'REQUESTED', 'NOT_WANTED', now(), now() from unnest($1::uuid[]) as id",
    )
    .bind(&ids)
    .bind(CUSTOMER)
    .execute(&scene.superuser)
    .await?;
    Ok(ids)
}

#[tokio::test]
async fn pages_show_every_order_once_and_the_newest_first() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let mut placed = Vec::new();
    for _ in 0..7 {
        placed.push(scene.place().await?);
    }
    placed.reverse();
    for (page_size, sizes) in [(3, vec![3, 3, 1]), (2, vec![2, 2, 2, 1]), (7, vec![7]), (1_000, vec![7])] {
        let mut request = page_of(page_size);
        let (mut seen, mut seen_sizes) = (Vec::new(), Vec::new());
        for _ in 0..placed.len() {
            let page = list(&scene.api, &request).await?;
            seen.extend(ids(&page)?);
            seen_sizes.push(page.orders.len());
            request.page_token = page.next_page_token;
            if request.page_token.is_empty() {
                break;
            }
        }
        assert_eq!((seen_sizes, &seen), (sizes, &placed), "pages of {page_size}");
    }
    Ok(())
}

/// Orders of the longest product ids and prices, as they lie in the table. Returns their ids, the oldest first.
async fn stored_large(scene: &Scene, items: &[i32]) -> anyhow::Result<Vec<Uuid>> {
    let ids = stored(scene, items.len()).await?;
    sqlx::query(
        "update orders set items = (
             select jsonb_agg(jsonb_build_object(
                 'product_id', repeat('p', 64), 'quantity', 2147483647,
                 'unit_price', jsonb_build_object('currency', 'EUR', 'minor', 1000000)))
             from generate_series(1, large.items))
         from unnest($1::uuid[], $2::integer[]) as large (id, items)
         where order_id = large.id",
    )
    .bind(&ids)
    .bind(items)
    .execute(&scene.superuser)
    .await?;
    Ok(ids)
}

#[tokio::test]
async fn pages_of_large_orders_end_before_they_are_too_large_and_show_every_order_once() -> anyhow::Result<()>
{
    const MIB: usize = 1024 * 1024;
    let scene = Scene::set().await?;
    // One that no page could hold with others stands in the middle, one at the end.
    let mut items = vec![1_000; 30];
    (items[0], items[15]) = (20_000, 20_000);
    let mut orders = stored_large(&scene, &items).await?;
    orders.reverse();
    for (page_size, sizes) in [(1_000, [13, 1, 1, 13, 1, 1]), (7, [7, 7, 1, 7, 7, 1])] {
        let mut request = page_of(page_size);
        let (mut seen, mut seen_sizes) = (Vec::new(), Vec::new());
        for _ in 0..orders.len() {
            let page = list(&scene.api, &request).await?;
            let bytes = page.encoded_len();
            assert!(page.orders.len() == 1 || bytes < 2 * MIB, "{} orders, {bytes} bytes", page.orders.len());
            seen_sizes.push(page.orders.len());
            seen.extend(ids(&page)?);
            request.page_token = page.next_page_token;
            if request.page_token.is_empty() {
                break;
            }
        }
        assert_eq!((seen_sizes.as_slice(), &seen), (sizes.as_slice(), &orders), "pages of {page_size}");
    }
    Ok(())
}

#[tokio::test]
async fn what_comes_and_goes_between_two_pages_repeats_and_hides_nothing() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let mut orders = stored(&scene, 9).await?;
    orders.reverse();
    let first = list(&scene.api, &page_of(3)).await?;
    assert_eq!(ids(&first)?, orders[..3]);
    // One that was shown, the one that the token stands for, and one that was not shown yet.
    for gone in [orders[0], orders[2], orders[5]] {
        sqlx::query("delete from orders where order_id = $1").bind(gone).execute(&scene.superuser).await?;
    }
    stored(&scene, 4).await?;
    let next = ListOrdersRequest { page_token: first.next_page_token, ..page_of(3) };
    let second = list(&scene.api, &next).await?;
    assert_eq!(ids(&second)?, [orders[3], orders[4], orders[6]]);
    let next = ListOrdersRequest { page_token: second.next_page_token, ..page_of(3) };
    let third = list(&scene.api, &next).await?;
    assert_eq!((ids(&third)?.as_slice(), third.next_page_token.as_str()), (&orders[7..], ""));
    Ok(())
}

#[tokio::test]
async fn a_list_shows_what_its_filter_asks_for() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let (pending, stocked) = (scene.place().await?, scene.place_stocked().await?);
    let (confirmed, cancelling) = (scene.place_confirmed().await?, scene.place().await?);
    scene.cancel(cancelling).await?;
    let theirs = id(&create(
        &scene.api,
        proto::order::v1::CreateOrderRequest { customer_id: "cust-2".into(), ..body() },
    )
    .await?)?;
    let any = OrderStatus::Unspecified;
    for (customer_id, status, found) in [
        ("", any, vec![theirs, cancelling, confirmed, stocked, pending]),
        (CUSTOMER, any, vec![cancelling, confirmed, stocked, pending]),
        ("cust-2", any, vec![theirs]),
        ("cust-3", any, vec![]),
        ("", OrderStatus::Pending, vec![theirs, pending]),
        ("", OrderStatus::StockReserved, vec![stocked]),
        ("", OrderStatus::Confirmed, vec![confirmed]),
        ("", OrderStatus::Compensating, vec![cancelling]),
        ("", OrderStatus::NeedsAttention, vec![]),
        (CUSTOMER, OrderStatus::Pending, vec![pending]),
        ("cust-2", OrderStatus::Confirmed, vec![]),
    ] {
        let request = ListOrdersRequest {
            customer_id: customer_id.into(),
            status: status.into(),
            ..Default::default()
        };
        let page = list(&scene.api, &request).await?;
        assert_eq!((ids(&page)?, page.next_page_token.as_str()), (found, ""), "{customer_id} {status:?}");
    }
    Ok(())
}

#[tokio::test]
async fn pages_have_the_size_that_was_asked_for_within_bounds() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    stored(&scene, 1_001).await?;
    for (asked, given) in [(0, 50), (1, 1), (999, 999), (1_000, 1_000), (1_001, 1_000), (i32::MAX, 1_000)] {
        let page = list(&scene.api, &page_of(asked)).await?;
        assert_eq!(page.orders.len(), given, "{asked}");
        assert!(!page.next_page_token.is_empty(), "{asked}");
    }
    Ok(())
}

#[tokio::test]
async fn a_wrong_list_is_refused_with_every_field_named() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    stored(&scene, 3).await?;
    let token = list(&scene.api, &page_of(1)).await?.next_page_token;
    let wanted = |customer_id: &str, status, page_size, page_token: &str| ListOrdersRequest {
        customer_id: customer_id.into(),
        status,
        page_size,
        page_token: page_token.into(),
    };
    for (request, wrong) in [
        (wanted("a b", 0, 0, ""), vec!["customer_id"]),
        (wanted("", 99, 0, ""), vec!["status"]),
        (wanted("", -1, 0, ""), vec!["status"]),
        (wanted("", 0, -1, ""), vec!["page_size"]),
        (wanted("", 0, i32::MIN, ""), vec!["page_size"]),
        (wanted("", 0, 0, "rubbish"), vec!["page_token"]),
        (wanted("", 0, 0, &format!("{token}0")), vec!["page_token"]),
        // A token of another filter.
        (wanted(CUSTOMER, 0, 0, &token), vec!["page_token"]),
        (wanted("", OrderStatus::Pending.into(), 0, &token), vec!["page_token"]),
        (wanted("\0", 99, -1, "-"), vec!["customer_id", "status", "page_size", "page_token"]),
    ] {
        let status = list(&scene.api, &request).await.expect_err("refused");
        assert_eq!(fields(&status), wrong, "{request:?}");
    }
    // Another page size is no other filter.
    assert_eq!(list(&scene.api, &wanted("", 0, 2, &token)).await?.orders.len(), 2);
    Ok(())
}
