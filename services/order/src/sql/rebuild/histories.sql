-- The whole histories of some orders.
select order_id, version, event, schema, data, occurred_at
from order_events
where order_id = any($1)
order by order_id, version
