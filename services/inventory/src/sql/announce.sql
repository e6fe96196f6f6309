-- The next version of products that were not announced for so many seconds.
with due as (
    select product_id
    from products
    where announced_at <= now() - $1::double precision * interval '1 second'
    order by announced_at
    limit $2
    -- Whoever else is at a product announces it.
    for update skip locked
)
update products
set version = products.version + 1, announced_at = now()
from due
where products.product_id = due.product_id
returning products.product_id, name, currency, price_minor, archived, version, created_at, updated_at
