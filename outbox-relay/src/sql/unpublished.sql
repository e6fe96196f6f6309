-- $1 counts no further: rows that the cursor does not cover yet, the age of the oldest in seconds, and its Unix time.
select count(*) as rows, coalesce(extract(epoch from clock_timestamp() - min(created_at)), 0)::float8 as oldest,
    extract(epoch from min(created_at))::float8 as since
from (
    select created_at
    from (
        select xid, id, created_at from outbox.event
        where xid >= (select pg_snapshot_xmax(snap) from outbox.cursor where name = 'main')
        union all
        select xid, id, created_at from outbox.event
        where xid = any (array(select pg_snapshot_xip(snap) from outbox.cursor where name = 'main'))
    ) as new
    cross join (select win, win_id from outbox.cursor where name = 'main') as c
    where c.win is null or id > c.win_id or not pg_visible_in_snapshot(xid, c.win)
    limit $1
) as unpublished
