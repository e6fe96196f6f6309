//! Products: added once, changed by mask, and each version told of once.

use std::time::Duration;

use inventory::{app::Catalogue, domain::Change};
use prost::Message as _;
use proto::inventory::v1::{
    CreateProductRequest, GetProductRequest, Product, ProductUpserted, UpdateProductRequest,
};
use tokio::task::JoinSet;
use tonic::{Code, Status};

use crate::scene::{Ask, Client, Scene, euros, fields, item, product, refusal};

async fn create(api: &Client, product: Product, initial_stock: i64) -> Result<Product, Status> {
    let request = CreateProductRequest { product: Some(product), initial_stock };
    Ok(api.clone().create_product(request).await?.into_inner().product.expect("a product"))
}

async fn update(api: &Client, product: Product, paths: &[&str]) -> Result<Product, Status> {
    let paths = paths.iter().map(|path| (*path).to_owned()).collect();
    let request =
        UpdateProductRequest { product: Some(product), update_mask: Some(prost_types::FieldMask { paths }) };
    Ok(api.clone().update_product(request).await?.into_inner().product.expect("a product"))
}

async fn get(api: &Client, product_id: &str) -> Result<Product, Status> {
    let request = GetProductRequest { product_id: product_id.to_owned() };
    Ok(api.clone().get_product(request).await?.into_inner().product.expect("a product"))
}

async fn announced(scene: &Scene, product_id: &str) -> anyhow::Result<Vec<ProductUpserted>> {
    let told = scene.told("product-events", product_id).await?;
    assert!(told.iter().all(|(_, name, _)| name == "ProductUpserted"));
    Ok(told
        .iter()
        .map(|(_, _, payload)| ProductUpserted::decode(payload.as_slice()))
        .collect::<Result<_, _>>()?)
}

#[tokio::test]
async fn a_new_product_is_there_with_its_stock_and_told_of() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let created = create(&scene.api, product("gaming-mouse"), 35).await?;
    assert_eq!((created.version, created.archived), (1, false));
    assert!(created.create_time.is_some() && created.create_time == created.update_time);
    assert_eq!(get(&scene.api, "gaming-mouse").await?, created);
    assert_eq!(scene.stock("gaming-mouse").await?, (35, 0));
    let expected = ProductUpserted {
        product_id: "gaming-mouse".to_owned(),
        name: "The gaming-mouse".to_owned(),
        price: Some(euros(900)),
        archived: false,
        version: 1,
    };
    assert_eq!(announced(&scene, "gaming-mouse").await?, [expected]);
    assert_eq!(scene.count("select count(*) from adjustments where reason = 'initial stock'").await?, 1);
    create(&scene.api, product("mug"), 0).await?;
    assert_eq!(scene.stock("mug").await?, (0, 0));
    assert_eq!(scene.count("select count(*) from adjustments").await?, 1, "nothing was counted");
    scene.check_invariants().await
}

#[tokio::test]
async fn a_product_is_added_once_even_by_the_very_same_request() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    create(&scene.api, product("mug"), 5).await?;
    for (again, units) in [(product("mug"), 5), (Product { name: "Cup".to_owned(), ..product("mug") }, 6)] {
        let refused = create(&scene.api, again, units).await.expect_err("it is there");
        assert_eq!(refusal(&refused), (Code::AlreadyExists, "PRODUCT_EXISTS".to_owned()));
    }
    assert_eq!((scene.stock("mug").await?, get(&scene.api, "mug").await?.version), ((5, 0), 1));
    scene.check_invariants().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_that_add_a_product_at_once_one_does() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let mut callers = JoinSet::new();
    for units in 1..=16 {
        let api = scene.api.clone();
        callers.spawn(async move { create(&api, product("mug"), units).await });
    }
    let outcomes = callers.join_all().await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    scene.check_invariants().await
}

#[tokio::test]
async fn each_wrong_field_of_a_new_product_is_named() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let wrong = |change: fn(&mut Product)| {
        let mut product = product("mug");
        change(&mut product);
        product
    };
    let table: [(&[&str], Product, i64); 10] = [
        (&["product.product_id"], wrong(|product| product.product_id = "a b".to_owned()), 0),
        (&["product.name"], wrong(|product| product.name.clear()), 0),
        (&["product.name"], wrong(|product| product.name = "n".repeat(201)), 0),
        (&["product.name"], wrong(|product| product.name = "a\0b".to_owned()), 0),
        (&["product.price"], wrong(|product| product.price = None), 0),
        (&["product.price.minor"], wrong(|product| product.price = Some(euros(0))), 0),
        (
            &["product.price.currency"],
            wrong(|product| {
                product.price = Some(proto::money::v1::Money { currency: "XXX".to_owned(), minor: 1 });
            }),
            0,
        ),
        (&["initial_stock"], product("mug"), -1),
        (&["initial_stock"], product("mug"), i64::MAX),
        (
            &["product.product_id", "product.name", "product.price", "initial_stock"],
            Product::default(),
            i64::MIN,
        ),
    ];
    for (named, product, initial_stock) in table {
        let refused = create(&scene.api, product, initial_stock).await.expect_err("a field is wrong");
        assert_eq!(fields(&refused), named);
    }
    let refused = scene.api.clone().create_product(CreateProductRequest::default()).await;
    assert_eq!(fields(&refused.expect_err("no product"))[0], "product");
    assert_eq!(scene.count("select count(*) from products").await?, 0);
    Ok(())
}

#[tokio::test]
async fn an_update_changes_what_its_mask_names() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    create(&scene.api, product("mug"), 1).await?;
    let wanted = Product {
        product_id: "mug".to_owned(),
        name: "Cup".to_owned(),
        price: Some(euros(1_000)),
        archived: true,
        version: 99,
        ..Default::default()
    };
    let mut expected = get(&scene.api, "mug").await?;
    for (paths, change) in [
        (&["price"][..], (|product| product.price = Some(euros(1_000))) as fn(&mut Product)),
        (&["archived"], |product| product.archived = true),
        (&["name", "price"], |product| product.name = "Cup".to_owned()),
        // Nothing is different, and it is told of all the same.
        (&["name"], |_| {}),
        (&["*"], |_| {}),
        (&[], |_| {}),
    ] {
        let updated = update(&scene.api, wanted.clone(), paths).await?;
        change(&mut expected);
        expected.version += 1;
        expected.update_time = updated.update_time;
        assert_eq!(updated, expected, "{paths:?}");
        assert_eq!(get(&scene.api, "mug").await?, expected);
    }
    let all = Product { product_id: "mug".to_owned(), archived: false, ..wanted };
    assert!(!update(&scene.api, all, &[]).await?.archived, "an empty mask means all three");
    let prices: Vec<i64> = announced(&scene, "mug")
        .await?
        .iter()
        .map(|told| told.price.clone().expect("a price").minor)
        .collect();
    assert_eq!(prices, [900, 1_000, 1_000, 1_000, 1_000, 1_000, 1_000, 1_000]);
    scene.check_invariants().await
}

#[tokio::test]
async fn an_update_of_what_cannot_be_changed_is_refused() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    create(&scene.api, product("mug"), 1).await?;
    for path in ["product_id", "version", "price.minor", "Name", "", "nonsense"] {
        let refused = update(&scene.api, product("mug"), &["name", path]).await.expect_err(path);
        assert_eq!(fields(&refused), ["update_mask"], "{path}");
    }
    let bare = Product { product_id: "mug".to_owned(), ..Default::default() };
    let refused = update(&scene.api, bare.clone(), &[]).await.expect_err("name and price are missing");
    assert_eq!(fields(&refused), ["product.name", "product.price"]);
    assert_eq!(update(&scene.api, bare, &["archived"]).await?.version, 2, "only what is named is looked at");
    let refused = update(&scene.api, product("a b"), &["name"]).await.expect_err("no id");
    assert_eq!(fields(&refused), ["product.product_id"]);
    let unknown = (Code::NotFound, "PRODUCT_NOT_FOUND".to_owned());
    assert_eq!(refusal(&update(&scene.api, product("jug"), &[]).await.expect_err("unknown")), unknown);
    assert_eq!(refusal(&get(&scene.api, "jug").await.expect_err("unknown")), unknown);
    assert_eq!(fields(&get(&scene.api, "").await.expect_err("no id")), ["product_id"]);
    scene.check_invariants().await
}

/// Pitfall: two writers that lock different rows tell of the older price last.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_last_record_of_a_product_has_its_last_price_whoever_wrote_meanwhile() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    create(&scene.api, product("mug"), 1_000).await?;
    let mut writers: JoinSet<anyhow::Result<()>> = JoinSet::new();
    for writer in 1..=4 {
        let catalogue = Catalogue::new(scene.pool.clone());
        writers.spawn(async move {
            for round in 1..=10 {
                let price =
                    inventory::domain::Money { currency: "EUR".to_owned(), minor: writer * 100 + round };
                let change = Change { price: Some(price), ..Change::default() };
                catalogue.update(&"mug".parse()?, change).await?;
            }
            Ok(())
        });
    }
    let catalogue = Catalogue::new(scene.pool.clone());
    writers.spawn(async move {
        for _ in 0..10 {
            catalogue.announce(Duration::ZERO).await?;
        }
        Ok(())
    });
    let pool = scene.pool.clone();
    writers.spawn(async move {
        for partition in 0..20 {
            let reserve = Ask::Reserve(vec![item("mug", 1)]);
            crate::scene::batch(&pool, &[crate::scene::record(partition, uuid::Uuid::now_v7(), reserve)])
                .await?;
        }
        Ok(())
    });
    while let Some(writer) = writers.join_next().await {
        writer??;
    }
    let (told, truth) = (announced(&scene, "mug").await?, get(&scene.api, "mug").await?);
    let last = told.last().expect("it was told of");
    assert_eq!((last.version, &last.price), (truth.version, &truth.price));
    assert!(truth.version >= 41);
    scene.check_invariants().await
}
