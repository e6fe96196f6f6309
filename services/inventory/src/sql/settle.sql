-- Moves all units of a reservation: $4 of each into what is available, $5 of each into what is reserved.
with held as (
    select stock.product_id, item.quantity
    from unnest($2::text[], $3::bigint[]) as item (product_id, quantity)
    join stock on stock.product_id = item.product_id and stock.bucket = $1
    -- In one order for all, or orders of the same products could wait for each other.
    order by stock.product_id
    for update of stock
)
update stock
set available = stock.available + $4::bigint * held.quantity, reserved = stock.reserved + $5::bigint * held.quantity
from held
where stock.product_id = held.product_id and stock.bucket = $1
