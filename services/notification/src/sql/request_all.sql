-- As request.sql, but many at once, of which no two are of the same order and kind.
insert into notifications (notification_id, order_id, customer_id, kind, channel, email_address, webhook_url,
    webhook_secret, subject, body, record_topic, record_partition, record_offset, record_key, record_headers,
    record_payload, record_ms, traceparent, tracestate)
select notification_id, order_id, customer_id, kind, channel, email_address, webhook_url, webhook_secret, subject, body,
    record_topic, record_partition, record_offset, record_key, record_headers, record_payload, record_ms, traceparent,
    tracestate
from unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[],
        $10::text[], $11::text[], $12::integer[], $13::bigint[], $14::bytea[], $15::bytea[], $16::bytea[], $17::bigint[],
        $18::text[], $19::text[])
    with ordinality as new (notification_id, order_id, customer_id, kind, channel, email_address, webhook_url,
        webhook_secret, subject, body, record_topic, record_partition, record_offset, record_key, record_headers,
        record_payload, record_ms, traceparent, tracestate, place)
-- Positions are given out in this order: it is the one in which an order's notifications are delivered.
order by place
on conflict on constraint notifications_once_per_order do update
    set status = 'PENDING', attempts = 0, first_attempt_at = null, next_attempt_at = now(), claimed_until = null,
        channel = excluded.channel, email_address = excluded.email_address, webhook_url = excluded.webhook_url,
        webhook_secret = excluded.webhook_secret, record_topic = excluded.record_topic,
        record_partition = excluded.record_partition, record_offset = excluded.record_offset,
        record_key = excluded.record_key, record_headers = excluded.record_headers,
        record_payload = excluded.record_payload, record_ms = excluded.record_ms,
        traceparent = excluded.traceparent, tracestate = excluded.tracestate
    where notifications.status = 'GIVEN_UP' and notifications.customer_id = excluded.customer_id
