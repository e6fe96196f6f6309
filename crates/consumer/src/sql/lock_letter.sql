select id, kind is not null as has_failed, coalesce(kind = 'undelivered', false) as undelivered, topic, partition, "offset", key, headers, payload, attempts, replays, first_failed_at,
    floor(extract(epoch from recorded_at) * 1000)::bigint as recorded_ms
from inbox.dead_letter
where id = $1 and replay = $2 and state in ('parked', 'held')
for update
