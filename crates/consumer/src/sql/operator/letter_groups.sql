select l.consumer, l.topic, l.event_type,
    coalesce(l.kind, 'stopped') as kind,
    coalesce(l.fingerprint, 'stopped') as fingerprint,
    coalesce((array_agg(l.error order by l.last_failed_at desc))[1], 'its replay was stopped') as error,
    count(*) as parked,
    count(l.replay) as replaying,
    sum(behind.held)::bigint as held,
    min(coalesce(l.first_failed_at, l.parked_at)) as first,
    max(coalesce(l.last_failed_at, l.parked_at)) as last
from inbox.parked($1, $2, $3, $4, $5, $6, $7) as l
cross join lateral (
    select count(*) as held
    from inbox.key_hold as h
    join inbox.dead_letter as w using (consumer, topic, key_hash)
    where h.consumer = l.consumer and h.topic = l.topic and h.key_hash = l.key_hash and h.head = l.id and w.state = 'held' and w.id <> l.id
) as behind
group by l.consumer, l.topic, l.event_type, l.kind, l.fingerprint
order by parked desc, last desc
