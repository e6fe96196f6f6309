//! Units, reservations, shipments and the catalogue.

use cli::platform::Database::{Inventory, Order};
use uuid::Uuid;

use super::{Case, case, sql};
use crate::damage::Orders;

pub fn cases(orders: &Orders) -> Vec<Case<'_>> {
    let (paid, rejected) = (&orders.confirmed.order_id, &orders.rejected.order_id);
    let stranger = Uuid::now_v7();
    let of_paid = format!("where order_id = '{paid}'");
    let counted = "product gaming-mouse: 1000000000 units were counted in; ";
    vec![
        case(
            "a unit is gone",
            [sql(
                Inventory,
                "update stock set available = available - 1 where product_id = 'gaming-mouse' and bucket = 3",
            )],
            [("stock", counted.into())],
        ),
        case(
            "a unit is reserved for nobody",
            [sql(
                Inventory,
                "update stock set available = available - 1, reserved = reserved + 1
                 where product_id = 'gaming-mouse' and bucket = 3",
            )],
            [("stock", "product gaming-mouse: has 1 units reserved, its reservations hold 0".into())],
        ),
        case(
            "nobody knows who has counted the stock",
            [sql(Inventory, "delete from adjustments where product_id = 'gaming-mouse'")],
            [("stock", "product gaming-mouse: 0 units were counted in; ".into())],
        ),
        case(
            "a reservation is lost",
            [sql(Inventory, format!("delete from reservations {of_paid}"))],
            [
                (
                    "events-published",
                    format!("order {paid} in stock-results from /orderly/inventory sequence 1: phantom"),
                ),
                ("stock", format!("order {paid}: is CONFIRMED and has no reservation")),
                ("stock", counted.into()),
            ],
        ),
        case(
            "a rejected order still holds its stock",
            [sql(
                Inventory,
                format!("update reservations set state = 'RESERVED' where order_id = '{rejected}'"),
            )],
            [
                (
                    "events-published",
                    format!("order {rejected} in stock-results from /orderly/inventory sequence 2: phantom"),
                ),
                (
                    "stock",
                    format!("reservation of order {rejected}: is RESERVED, its order REJECTED: an orphan"),
                ),
                ("stock", "product gaming-mouse: has 0 units reserved, its reservations hold 1".into()),
            ],
        ),
        case(
            "another shipment travels than the customer knows of",
            [sql(Inventory, format!("update reservations set shipment_id = '{stranger}' {of_paid}"))],
            [("stock", format!("reservation of order {paid}: has shipment {stranger}, its order "))],
        ),
        case(
            "more is shipped than was ordered",
            [sql(
                Inventory,
                format!("update reservations set items = jsonb_set(items, '{{0,quantity}}', '2') {of_paid}"),
            )],
            [
                ("stock", "is COMMITTED with 2 gaming-mouse, its order wants 1 gaming-mouse".into()),
                ("stock", counted.into()),
            ],
        ),
        case(
            "a version of a product was never announced",
            [sql(Inventory, "update products set version = version + 1 where product_id = 'gaming-mouse'")],
            [
                (
                    "events-published",
                    "product gaming-mouse in product-events from /orderly/inventory sequence 2: missing \
                 orderly.inventory.v1.ProductUpserted"
                        .into(),
                ),
                (
                    "stock",
                    "product gaming-mouse: the order service knows version 1 at EUR 4999, inventory".into(),
                ),
            ],
        ),
        case(
            "customers are offered another price, and a product that nobody has",
            [
                sql(Order, "update products set price_minor = 1 where product_id = 'gaming-mouse'"),
                sql(
                    Order,
                    "insert into products (product_id, name, version, currency, price_minor, archived)
                     values ('unicorn', 'Unicorn', 1, 'EUR', 1, false)",
                ),
            ],
            [
                (
                    "stock",
                    "product gaming-mouse: the order service knows version 1 at EUR 1, inventory has".into(),
                ),
                ("stock", "product unicorn: the order service knows it, and inventory does not".into()),
            ],
        ),
        case(
            "the order service has never heard of a product",
            [sql(Order, "delete from products where product_id = 'gaming-mouse'")],
            [("stock", "product gaming-mouse: the order service does not know it".into())],
        ),
        case(
            "two orders have one shipment",
            [sql(
                Inventory,
                format!(
                    "alter table reservations drop constraint reservations_shipment_id_key;
                     update reservations set shipment_id = paid.shipment_id from reservations as paid
                     where reservations.order_id = '{rejected}' and paid.order_id = '{paid}'"
                ),
            )],
            [("stock", ", as order ".into())],
        ),
    ]
}
