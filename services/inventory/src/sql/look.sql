-- What there is of each item, without waiting for anybody. The rows of the own bucket are locked already.
select item.product_id, coalesce(not products.archived, false) as sold,
       coalesce(units.own, 0) as own, coalesce(units.available, 0) as available
from unnest($2::text[]) with ordinality as item (product_id, position)
left join products on products.product_id = item.product_id
left join lateral (
    select sum(stock.available) filter (where stock.bucket = $1)::bigint as own, sum(stock.available)::bigint as available
    from stock
    where stock.product_id = item.product_id
) as units on true
order by item.position
