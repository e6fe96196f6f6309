select version, event, schema, data, occurred_at
from order_events
where order_id = $1
order by version
