-- Repeating it changes nothing: after a crash the same rows are parked again. One that waited and is refused when its
-- turn comes gets its reason.
insert into outbox.parked (id, topic, partition, key, headers, payload, created_at, reason)
select id, topic, partition, key, headers, payload, to_timestamp(created_at), reason
from unnest($1::bigint[], $2::text[], $3::integer[], $4::bytea[], $5::bytea[], $6::bytea[], $7::float8[], $8::text[])
    as p (id, topic, partition, key, headers, payload, created_at, reason)
on conflict (id) do update set reason = coalesce(parked.reason, excluded.reason)
