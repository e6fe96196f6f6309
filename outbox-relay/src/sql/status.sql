select epoch, owner is not null as held, system_identifier, kafka_cluster_id,
    pg_snapshot_xmax(snap) > pg_snapshot_xmax(pg_current_snapshot()) as ahead,
    (select count(*) from outbox.parked) as parked,
    (
        select coalesce(json_agg(json_build_object('topic', topic, 'reason', reason, 'since', since) order by topic), '[]')
        from outbox.lane
    )::text as lanes,
    (
        select coalesce(json_agg(hold), '[]')
        from (
            select h.topic, shown.key, h.reason, h.since, h.released,
                (select count(*) from outbox.parked as p where p.topic = h.topic and p.key = h.key) as parked
            from outbox.hold as h
            cross join lateral (select encode(h.key, 'escape') as key) as shown
            order by h.since
            limit 100
        ) as hold
    )::text as holds,
    (
        select coalesce(json_agg(o), '[]')
        from (
            select topic, encode(key, 'escape') as key, times, since, last from outbox.overtaken
            order by last desc
            limit 100
        ) as o
    )::text as overtaken
from outbox.cursor
where name = 'main'
