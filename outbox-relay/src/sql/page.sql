-- The rows of some keys, in any order. The slot lets PostgreSQL look into one leaf per key.
select event.id, topic, partition, event.key, headers, payload, extract(epoch from created_at)::float8 as created_at
from (
    select slot, xid::text::xid8 as xid, id from unnest($1::smallint[], $2::bigint[], $3::bigint[]) as k (slot, xid, id)
) as wanted
join outbox.event using (slot, xid, id)
