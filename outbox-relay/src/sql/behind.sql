-- The present snapshot, if at least $3 rows wait that the cursor's snapshot does not show. Counts no further.
select pg_current_snapshot()::text
where $3 <= (
    select count(*)
    from (
        select from (
            select from outbox.event where xid >= $1::text::xid8
            union all
            select from outbox.event where xid = any ($2::text::xid8[])
        ) as new
        limit $3
    ) as counted
)
