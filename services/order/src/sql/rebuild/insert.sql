-- What the events say, with what no event says: that is carried over from the live row. Where the row changes at this
-- moment, its version does, too, and the order is rebuilt again.
insert into orders_rebuilt (
    order_id, customer_id, status, status_reason, attention, version, items, currency, total_minor, payment_id,
    stock, payment, outcome, attempts, shipment, created_at, updated_at,
    request_id, request_hash, payment_token, deadline)
select rebuilt.order_id, rebuilt.customer_id, rebuilt.status, rebuilt.status_reason, rebuilt.attention, rebuilt.version,
       rebuilt.items, rebuilt.currency, rebuilt.total_minor, rebuilt.payment_id, rebuilt.stock, rebuilt.payment,
       rebuilt.outcome, rebuilt.attempts, rebuilt.shipment, rebuilt.created_at, rebuilt.updated_at,
       live.request_id, live.request_hash, live.payment_token,
       case
           when live.order_id is not null then live.deadline
           -- The row was lost; the order must not wait for ever.
           when rebuilt.waits then now() + interval '15 minutes'
       end
from unnest(
    $1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::integer[], $7::jsonb[], $8::text[], $9::bigint[],
    $10::uuid[], $11::text[], $12::text[], $13::text[], $14::integer[], $15::jsonb[], $16::timestamptz[],
    $17::timestamptz[], $18::boolean[]
) as rebuilt (
    order_id, customer_id, status, status_reason, attention, version, items, currency, total_minor, payment_id,
    stock, payment, outcome, attempts, shipment, created_at, updated_at, waits)
left join orders as live on live.order_id = rebuilt.order_id
