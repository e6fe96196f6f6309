-- Until when everything is published to these topics: when the first event was appended that is not; now, where there is
-- none. A topic that cannot be published to has a lane, and delays nobody who does not ask for it. What is parked waits for an operator and does not count. For a service that must not take its own silence for
-- somebody else's.
create function outbox.published_until(topics text[]) returns timestamptz
    language sql stable security definer set search_path = pg_catalog
as $$
    select least(
        clock_timestamp(),
        -- The bound comes from a subselect, so that the index is entered where the unpublished events begin. A transaction
        -- that began early may have appended late: the first ones are looked at together.
        (select min(created_at)
         from (
             select e.created_at
             from outbox.event e
             where e.xid >= (select pg_snapshot_xmin(snap) from outbox.cursor where name = 'main')
                 and not pg_visible_in_snapshot(e.xid, (select snap from outbox.cursor where name = 'main'))
             order by e.xid, e.id
             limit 1000) as first),
        (select min(first.created_at)
         from outbox.lane l
         cross join lateral (
             select e.created_at
             from outbox.event e
             where e.xid >= pg_snapshot_xmin(l.snap) and e.topic = l.topic and not pg_visible_in_snapshot(e.xid, l.snap)
             order by e.xid, e.id
             limit 1) as first
         where l.topic = any (topics)))
$$;

revoke all on function outbox.published_until(text[]) from public;
