-- The channel has taken them, whoever holds the claims by now.
update notifications
set status = 'DELIVERED', delivered_at = now(), claimed_until = null, webhook_secret = null, record_topic = null,
    record_partition = null, record_offset = null, record_key = null, record_headers = null, record_payload = null,
    record_ms = null
where notification_id = any ($1) and status = 'PENDING'
