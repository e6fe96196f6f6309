-- A backlog window (snap, win], after the id up to which it has been published.
-- $1 xmax of snap, $2 its transactions in progress, $3 win, $4 the last published id, $5 only this topic, for a lane
select slot, xid::text::bigint as xid, id, size
from (
    select slot, xid, id, topic,
        octet_length(headers) + coalesce(octet_length(key), 0) + coalesce(octet_length(payload), 0) as size
    from outbox.event
    where xid >= $1::text::xid8
        -- Only for the index: the last condition says the same and more.
        and xid < pg_snapshot_xmax($3::text::pg_snapshot)
    union all
    select slot, xid, id, topic,
        octet_length(headers) + coalesce(octet_length(key), 0) + coalesce(octet_length(payload), 0) as size
    from outbox.event
    where xid = any ($2::text::xid8[])
) as new
where id > $4 and pg_visible_in_snapshot(xid, $3::text::pg_snapshot) and ($5::text is null or topic = $5)
order by id
