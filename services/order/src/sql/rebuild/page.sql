-- The next events of the whole history, order by order.
select order_id, version, event, schema, data, occurred_at
from order_events
where (order_id, version) > ($1, $2)
order by order_id, version
limit $3
