with parked as (select id, consumer, topic, key_hash from inbox.parked($1, $2, $3, $4, $5, $6, $7))
select l.* from inbox.dead_letter as l
where l.id in (select id from parked)
    or (l.state = 'held' and (l.consumer, l.topic, l.key_hash) in (select consumer, topic, key_hash from parked))
order by l.seq
