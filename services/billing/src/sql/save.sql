UPDATE payments
SET status = new.status,
    failure = new.failure,
    version = new.version,
    provider_reference = new.provider_reference,
    refund_requested = new.refund_requested,
    refunded_minor = new.refunded_minor,
    -- Kept for one purpose only: the charge that is still owed.
    payment_token = CASE WHEN new.status = 'PENDING' THEN payment_token END,
    -- Noting a refund request does not end the call that may be on its way; a transition does.
    claimed_until = CASE WHEN new.before = new.version THEN claimed_until END,
    next_attempt_at = CASE WHEN new.before = new.version THEN next_attempt_at ELSE now() END,
    -- The refund belongs to the trace of the record that requests it, where one does now.
    traceparent = CASE WHEN new.status = 'REFUNDING' AND $9::text IS NOT NULL THEN $9 ELSE traceparent END,
    tracestate = CASE WHEN new.status = 'REFUNDING' AND $9::text IS NOT NULL THEN $10::text ELSE tracestate END,
    updated_at = now()
FROM unnest($1::uuid[], $2::integer[], $3::text[], $4::text[], $5::integer[], $6::text[], $7::boolean[], $8::bigint[])
    AS new (payment_id, before, status, failure, version, provider_reference, refund_requested, refunded_minor)
WHERE payments.payment_id = new.payment_id
  AND payments.version = new.before
