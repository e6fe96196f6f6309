-- The rows of some keys, up to $4 bytes. The slot lets PostgreSQL look into one leaf per key.
select id, topic, partition, key, headers, payload, created_at
from (
    select *, row_number() over (order by id) as place, sum(size) over (order by id) as bytes
    from (
        select event.id, topic, partition, event.key, headers, payload, extract(epoch from created_at)::float8 as created_at,
            octet_length(headers) + coalesce(octet_length(event.key), 0) + coalesce(octet_length(payload), 0) as size
        from (
            select slot, xid::text::xid8 as xid, id from unnest($1::smallint[], $2::bigint[], $3::bigint[]) as k (slot, xid, id)
        ) as wanted
        join outbox.event using (slot, xid, id)
    ) as page
) as sized
where place = 1 or bytes <= $4
order by id
