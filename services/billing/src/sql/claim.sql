-- Materialized: as a plain subquery the LIMIT could be evaluated again for each row.
WITH due AS MATERIALIZED (
    SELECT payment_id
    FROM payments
    -- Only these owe the provider a call; the partial index has no others.
    WHERE status IN ('PENDING', 'REFUNDING')
      AND next_attempt_at <= now()
      -- A claim outlives its worker only until the lease ends; the key makes the second call harmless.
      AND (claimed_until IS NULL OR claimed_until <= now())
    ORDER BY next_attempt_at
    LIMIT $1
    -- A row that a handler or another worker is changing will be looked at again.
    FOR UPDATE SKIP LOCKED
)
UPDATE payments
SET claimed_until = now() + make_interval(secs => $2), attempts = attempts + 1
FROM due
WHERE payments.payment_id = due.payment_id
RETURNING payments.payment_id, order_id, status, currency, amount_minor, payment_token, attempts,
    traceparent, tracestate, coalesce(not_after <= now(), false) AS expired
