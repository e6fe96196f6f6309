select count(*) as selected, count(h.head) as keys, coalesce(sum(behind.held), 0)::bigint as held
from inbox.parked($1, $2, $3, $4, $5, $6, $7) as l
left join inbox.key_hold as h
    on h.consumer = l.consumer and h.topic = l.topic and h.key_hash = l.key_hash and h.head = l.id
cross join lateral (
    select count(*) as held from inbox.dead_letter as w
    where h.head is not null and w.consumer = l.consumer and w.topic = l.topic and w.key_hash = l.key_hash and w.state = 'held' and w.id <> l.id
) as behind
where l.replay is null or exists (select from inbox.replay as r where r.id = l.replay and r.state = 'stopped')
