-- One page of orders, and the order after it where the list goes on.
with recursive candidate as (
    select array(
        select order_id
        from orders
        where ($1::text is null or customer_id = $1)
          and ($2::text is null or status = $2)
          and ($3::uuid is null or order_id < $3)
        order by order_id desc
        limit $4::bigint + 1) as ids
), page as (
    -- Not pg_column_size: what is stored is compressed, what is answered is not.
    select 1 as position, order_id, octet_length(items::text)::bigint as bytes
    from candidate
    join orders on order_id = ids[1]
    union all
    select page.position + 1, orders.order_id, page.bytes + octet_length(orders.items::text)
    from page
    cross join candidate
    join orders on orders.order_id = candidate.ids[page.position + 1]
    -- One by one, so that the items behind the page's end are not even read. However large, the first order has a page:
    -- the list must go on.
    where page.position = 1 or page.bytes <= $5::bigint
)
select order_id, customer_id, status, status_reason, attention, version, items, currency, total_minor, payment_id,
       stock, payment, shipment, outcome, attempts, deadline, created_at, updated_at,
       position <= $4 and (position = 1 or bytes <= $5) as fits
from page
join orders using (order_id)
order by position
