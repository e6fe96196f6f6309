update orders
set status = new.status, status_reason = new.reason, attention = new.attention, version = new.version,
    stock = new.stock, payment = new.payment, shipment = new.shipment, outcome = new.outcome,
    attempts = new.attempts, deadline = new.deadline, updated_at = new.updated_at,
    -- Kept until the payment is asked for, and no longer.
    payment_token = case when new.status = 'PENDING' then payment_token end
from unnest($1::uuid[], $2::integer[], $3::text[], $4::text[], $5::text[], $6::integer[], $7::text[], $8::text[],
            $9::jsonb[], $10::text[], $11::integer[], $12::timestamptz[], $13::timestamptz[])
    as new (order_id, before, status, reason, attention, version, stock, payment, shipment, outcome, attempts, deadline,
            updated_at)
where orders.order_id = new.order_id
  -- Optimistic concurrency, beside the lock.
  and orders.version = new.before
