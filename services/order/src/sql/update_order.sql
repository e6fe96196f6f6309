update orders
set status = $3, status_reason = $4, attention = $5, version = $6, stock = $7, payment = $8, shipment = $9, outcome = $10,
    attempts = $11, deadline = $12, updated_at = $13,
    -- Kept until the payment is asked for, and no longer.
    payment_token = case when $3 = 'PENDING' then payment_token end
where order_id = $1
  -- Optimistic concurrency, beside the lock.
  and version = $2
