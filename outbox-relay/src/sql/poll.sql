-- One statement is one snapshot: exactly the rows that it sees and that the cursor's snapshot does not.
-- $1 xmax of the cursor's snapshot, $2 its transactions in progress, $3 one more row than a page has, $4 a page's bytes
select pg_current_snapshot()::text as current, page.*
from (values (true)) as always (present)
left join lateral (
    select *
    from (
        select *, count(*) over () as found, row_number() over (order by id) as place, sum(size) over (order by id) as bytes
        from (
            select id, topic, partition, key, headers, payload, extract(epoch from created_at)::float8 as created_at,
                octet_length(headers) + coalesce(octet_length(key), 0) + coalesce(octet_length(payload), 0) as size
            from (
                -- Keys only, so that a large backlog is not read as a whole to find its first page.
                select slot, xid, id
                from (
                    -- Two index ranges; as one OR they would be a sequential scan.
                    select slot, xid, id from outbox.event where xid >= $1::text::xid8
                    union all
                    select slot, xid, id from outbox.event where xid = any ($2::text::xid8[])
                ) as new
                -- Never by xid: a transaction that began early may have appended late.
                order by id
                limit $3
            ) as keys
            join outbox.event using (slot, xid, id)
        ) as first
    ) as sized
    -- The first row always, however large it is.
    where place = 1 or bytes <= $4
) as page on true
order by page.id
