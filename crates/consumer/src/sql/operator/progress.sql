select r.id, r.consumer, r.actor, r.reason, r.state, r.words, r.rate, r.selected, r.created_at, r.ended_at,
    (select count(*) from inbox.audit as a where a.replay = r.id and a.action = 'replayed') as replayed,
    (select count(*) from inbox.audit as a where a.replay = r.id and a.action = 'dead-again') as dead_again,
    (select count(*) from inbox.dead_letter as l where l.replay = r.id and l.state in ('parked', 'held')) as left
from inbox.replay as r
where r.id = any ($1)
order by r.created_at
