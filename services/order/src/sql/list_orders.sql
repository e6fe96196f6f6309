-- One page of orders, and the order after it where the list goes on.
with candidate as (
    select order_id, customer_id, status, status_reason, version, items, currency, total_minor, payment_id, created_at, updated_at,
           -- Not pg_column_size: what is stored is compressed, what is answered is not.
           octet_length(items::text) as bytes
    from orders
    where ($1::text is null or customer_id = $1)
      and ($2::text is null or status = $2)
      and ($3::uuid is null or order_id < $3)
    order by order_id desc
    limit $4::bigint + 1
), measured as (
    select *, row_number() over newest as position, sum(bytes) over newest as bytes_so_far
    from candidate
    window newest as (order by order_id desc)
)
select order_id, customer_id, status, status_reason, version, items, currency, total_minor, payment_id, created_at, updated_at,
       -- However large, the first order has a page: the list must go on.
       position <= $4 and (position = 1 or bytes_so_far <= $5::bigint) as fits
from measured
where position <= 2 or bytes_so_far - bytes <= $5
order by order_id desc
