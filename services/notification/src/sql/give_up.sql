-- Ends the notification of this attempt, and returns the record that requested it. Nothing where that was not kept, or
-- another attempt has begun.
with record as (
    select notification_id, record_topic, record_partition, record_offset, record_key, record_headers, record_payload,
        record_ms
    from notifications
    where notification_id = $1 and attempts = $2 and status = 'PENDING' and record_headers is not null
    for update
)
update notifications as ended
set status = 'GIVEN_UP', claimed_until = null, webhook_secret = null, record_topic = null, record_partition = null,
    record_offset = null, record_key = null, record_headers = null, record_payload = null, record_ms = null
from record
where ended.notification_id = record.notification_id
returning record.record_topic, record.record_partition, record.record_offset, record.record_key, record.record_headers,
    record.record_payload, record.record_ms
