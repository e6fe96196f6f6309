-- Holds all items of an order in one bucket, or nothing. Names those that it held.
with held as (
    select stock.product_id, stock.available, item.quantity
    from unnest($2::text[], $3::bigint[]) as item (product_id, quantity)
    join products on products.product_id = item.product_id and not products.archived
    join stock on stock.product_id = item.product_id and stock.bucket = $1
    -- In one order for all, or orders of the same products could wait for each other.
    order by stock.product_id
    for update of stock
)
update stock
set available = stock.available - held.quantity, reserved = stock.reserved + held.quantity
from held
where stock.product_id = held.product_id and stock.bucket = $1
  and (select count(*) = cardinality($2::text[]) and bool_and(available >= quantity) from held)
  -- After a wait for another order of this bucket PostgreSQL looks at the row again, but with `held` as the statement's
  -- snapshot has it. So the row itself is asked, too; fewer than all may then be held, and the caller gives these back.
  and stock.available >= held.quantity
returning stock.product_id
