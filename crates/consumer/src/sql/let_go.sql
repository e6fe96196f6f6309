-- $1 has ended, $2 goes on: with the next record of the key, or there is none and its hold is over. Nothing where the key
-- was not held.
with held as (
    select h.consumer, h.topic, h.key_hash, (
        select l.id from inbox.dead_letter as l
        where l.consumer = h.consumer and l.topic = h.topic and l.key_hash = h.key_hash
            and l.state in ('parked', 'held') and l.id <> $1
            -- What a dispatcher gave up has had its turn.
            and l.kind is distinct from 'undelivered'
        order by l.seq limit 1
    ) as next
    from inbox.key_hold as h
    where h.head = $1
), over as (
    delete from inbox.key_hold as h using held
    where held.next is null and (h.consumer, h.topic, h.key_hash) = (held.consumer, held.topic, held.key_hash)
), goes_on as (
    update inbox.key_hold as h set head = held.next from held
    where held.next is not null and (h.consumer, h.topic, h.key_hash) = (held.consumer, held.topic, held.key_hash)
)
update inbox.dead_letter as l set replay = $2 from held where l.id = held.next
