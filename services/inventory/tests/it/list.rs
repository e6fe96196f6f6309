//! `ListProducts`: pages that show each product once, by id.

use proto::inventory::v1::{ListProductsRequest, ListProductsResponse, Product, UpdateProductRequest};
use tonic::Status;

use crate::scene::{Client, Scene, fields, product};

async fn list(api: &Client, request: &ListProductsRequest) -> Result<ListProductsResponse, Status> {
    Ok(api.clone().list_products(request.clone()).await?.into_inner())
}

/// Ids of every page, and the sizes of the pages.
async fn all(api: &Client, mut request: ListProductsRequest) -> anyhow::Result<(Vec<String>, Vec<usize>)> {
    let (mut ids, mut sizes) = (Vec::new(), Vec::new());
    for _ in 0..20 {
        let page = list(api, &request).await?;
        sizes.push(page.products.len());
        ids.extend(page.products.into_iter().map(|product| product.product_id));
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            return Ok((ids, sizes));
        }
    }
    anyhow::bail!("the list does not end")
}

/// In the order of their bytes.
const IDS: [&str; 7] = ["A", "Z-1", "Z-1-", "_", "a", "gaming-mouse", "mouse-pad"];

async fn filled() -> anyhow::Result<Scene> {
    let scene = Scene::set().await?;
    for product_id in IDS.into_iter().rev() {
        scene.add(product_id, 0).await?;
    }
    Ok(scene)
}

#[tokio::test]
async fn pages_show_every_product_once_by_id() -> anyhow::Result<()> {
    let scene = filled().await?;
    for (page_size, sizes) in
        [(3, vec![3, 3, 1]), (2, vec![2, 2, 2, 1]), (1, vec![1; 7]), (7, vec![7]), (0, vec![7])]
    {
        let request = ListProductsRequest { page_size, ..Default::default() };
        let seen = all(&scene.api, request).await?;
        assert_eq!(seen, (IDS.map(str::to_owned).to_vec(), sizes), "pages of {page_size}");
    }
    Ok(())
}

#[tokio::test]
async fn only_what_is_looked_for_is_listed() -> anyhow::Result<()> {
    let scene = filled().await?;
    let named = Product { name: "Ergonomic 100% Trackball_".to_owned(), ..product("t1") };
    let request = proto::inventory::v1::CreateProductRequest { product: Some(named), initial_stock: 0 };
    scene.api.clone().create_product(request).await?;
    for (query, ids) in [
        ("mouse", vec!["gaming-mouse", "mouse-pad"]),
        ("MOUSE-P", vec!["mouse-pad"]),
        ("the a", vec!["A", "a"]),
        ("ergo", vec!["t1"]),
        // No wildcards.
        ("100%", vec!["t1"]),
        ("%", vec!["t1"]),
        ("_", vec!["_", "t1"]),
        ("nothing", vec![]),
    ] {
        let request = ListProductsRequest { query: query.to_owned(), page_size: 1, ..Default::default() };
        assert_eq!(all(&scene.api, request).await?.0, ids, "{query}");
    }
    Ok(())
}

#[tokio::test]
async fn archived_products_are_listed_where_they_are_asked_for() -> anyhow::Result<()> {
    let scene = filled().await?;
    let request = UpdateProductRequest {
        product: Some(Product { archived: true, ..product("Z-1") }),
        update_mask: Some(prost_types::FieldMask { paths: vec!["archived".to_owned()] }),
    };
    scene.api.clone().update_product(request).await?;
    let without: Vec<&str> = IDS.into_iter().filter(|id| *id != "Z-1").collect();
    assert_eq!(all(&scene.api, ListProductsRequest { page_size: 2, ..Default::default() }).await?.0, without);
    let request = ListProductsRequest { show_archived: true, page_size: 2, ..Default::default() };
    assert_eq!(all(&scene.api, request).await?.0, IDS);
    Ok(())
}

#[tokio::test]
async fn a_wrong_list_request_is_refused_by_field() -> anyhow::Result<()> {
    let scene = filled().await?;
    let first = list(&scene.api, &ListProductsRequest { page_size: 2, ..Default::default() }).await?;
    let token = first.next_page_token;
    let digest = token.rsplit('-').next().unwrap_or_default();
    let base = ListProductsRequest::default;
    let table = [
        ("page_size", ListProductsRequest { page_size: -1, ..base() }),
        ("page_token", ListProductsRequest { page_token: "nonsense".to_owned(), ..base() }),
        // Of this filter, but after no id.
        ("page_token", ListProductsRequest { page_token: format!("a\0-{digest}"), ..base() }),
        ("page_token", ListProductsRequest { page_token: token.clone(), query: "mug".to_owned(), ..base() }),
        ("page_token", ListProductsRequest { page_token: token, show_archived: true, ..base() }),
        ("query", ListProductsRequest { query: "q".repeat(201), ..base() }),
        ("query", ListProductsRequest { query: "a\0".to_owned(), ..base() }),
    ];
    for (field, request) in table {
        assert_eq!(fields(&list(&scene.api, &request).await.expect_err(field)), [field], "{request:?}");
    }
    Ok(())
}
