-- Until when everything is published: the first event that is not was appended then; now, where there is none. What is
-- parked waits for an operator and does not count. For a service that must not take its own silence for somebody else's.
create function outbox.published_until() returns timestamptz
    language sql stable security definer set search_path = pg_catalog
as $$
    select least(
        clock_timestamp(),
        (select e.created_at
         from outbox.cursor c, outbox.event e
         where c.name = 'main' and e.xid >= pg_snapshot_xmin(c.snap) and not pg_visible_in_snapshot(e.xid, c.snap)
         order by e.xid, e.id
         limit 1),
        (select min(e.created_at)
         from outbox.lane l, outbox.event e
         where e.topic = l.topic and e.xid >= pg_snapshot_xmin(l.snap) and not pg_visible_in_snapshot(e.xid, l.snap)))
$$;

revoke all on function outbox.published_until() from public;
