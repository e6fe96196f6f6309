UPDATE payments
SET status = $3,
    failure = $4,
    version = $5,
    provider_reference = $6,
    refund_requested = $7,
    refunded_minor = $8,
    -- Kept for one purpose only: the charge that is still owed.
    payment_token = CASE WHEN $3 = 'PENDING' THEN payment_token END,
    -- Noting a refund request does not end the call that may be on its way; a transition does.
    claimed_until = CASE WHEN version = $5 THEN claimed_until END,
    next_attempt_at = CASE WHEN version = $5 THEN next_attempt_at ELSE now() END,
    updated_at = now()
WHERE payment_id = $1
  AND version = $2
