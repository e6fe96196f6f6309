-- One notification for each order and kind, however often it is requested.
insert into notifications (notification_id, order_id, customer_id, kind, channel, email_address, webhook_url,
    webhook_secret, subject, body, record_topic, record_partition, record_offset, record_key, record_headers,
    record_payload, record_ms, traceparent, tracestate)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)
on conflict on constraint notifications_once_per_order do update
    -- It was given up, and this is its replay: it starts again, where its customer wants to be told by now.
    set status = 'PENDING', attempts = 0, first_attempt_at = null, next_attempt_at = now(), claimed_until = null,
        channel = excluded.channel, email_address = excluded.email_address, webhook_url = excluded.webhook_url,
        webhook_secret = excluded.webhook_secret, record_topic = excluded.record_topic,
        record_partition = excluded.record_partition, record_offset = excluded.record_offset,
        record_key = excluded.record_key, record_headers = excluded.record_headers,
        record_payload = excluded.record_payload, record_ms = excluded.record_ms,
        traceparent = excluded.traceparent, tracestate = excluded.tracestate
    where notifications.status = 'GIVEN_UP' and notifications.customer_id = excluded.customer_id
