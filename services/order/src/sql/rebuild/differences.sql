-- Every derived value of the view that is not the rebuilt one: of some orders, or of all.
insert into found_differences (order_id, name, live, rebuilt)
select order_id, difference.name, difference.live, difference.rebuilt
from (select * from orders where $1::uuid[] is null or order_id = any($1)) as live
full join (select * from orders_rebuilt where $1::uuid[] is null or order_id = any($1)) as rebuilt using (order_id)
cross join lateral (values
    ('order_id', live.order_id::text, rebuilt.order_id::text),
    ('customer_id', live.customer_id, rebuilt.customer_id),
    ('status', live.status, rebuilt.status),
    ('status_reason', live.status_reason, rebuilt.status_reason),
    ('attention', live.attention, rebuilt.attention),
    ('version', live.version::text, rebuilt.version::text),
    ('items', live.items::text, rebuilt.items::text),
    ('currency', live.currency, rebuilt.currency),
    ('total_minor', live.total_minor::text, rebuilt.total_minor::text),
    ('payment_id', live.payment_id::text, rebuilt.payment_id::text),
    ('stock', live.stock, rebuilt.stock),
    ('payment', live.payment, rebuilt.payment),
    ('outcome', live.outcome, rebuilt.outcome),
    ('attempts', live.attempts::text, rebuilt.attempts::text),
    ('shipment', live.shipment::text, rebuilt.shipment::text),
    ('created_at', live.created_at::text, rebuilt.created_at::text),
    ('updated_at', live.updated_at::text, rebuilt.updated_at::text)
) as difference (name, live, rebuilt)
-- First whole rows, which is quick: hardly any differs.
where (live.order_id, live.customer_id, live.status, live.status_reason, live.attention, live.version, live.items,
       live.currency, live.total_minor, live.payment_id, live.stock, live.payment, live.outcome, live.attempts,
       live.shipment, live.created_at, live.updated_at)
      is distinct from
      (rebuilt.order_id, rebuilt.customer_id, rebuilt.status, rebuilt.status_reason, rebuilt.attention,
       rebuilt.version, rebuilt.items, rebuilt.currency, rebuilt.total_minor, rebuilt.payment_id, rebuilt.stock,
       rebuilt.payment, rebuilt.outcome, rebuilt.attempts, rebuilt.shipment, rebuilt.created_at, rebuilt.updated_at)
  and difference.live is distinct from difference.rebuilt
  -- Where a whole row is missing, that is the difference.
  and (difference.name = 'order_id' or live.order_id = rebuilt.order_id)
