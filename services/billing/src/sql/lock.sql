SELECT payment_id, order_id, customer_id, currency, amount_minor, status, failure, version, attempts,
    provider_reference, refund_requested, refunded_minor, created_at, updated_at
FROM payments
WHERE payment_id = ANY($1)
-- In one order for all, or writers of several payments could wait for each other.
ORDER BY payment_id
FOR UPDATE
