SELECT payment_id, order_id, customer_id, currency, amount_minor, status, failure, version, attempts,
    provider_reference, refund_requested, refunded_minor, created_at, updated_at
FROM payments
WHERE ($1::uuid IS NULL OR order_id = $1)
  -- Ids are UUIDv7: their order is the order of creation, and a page goes on below the last one shown.
  AND ($2::uuid IS NULL OR payment_id < $2)
ORDER BY payment_id DESC
LIMIT $3
