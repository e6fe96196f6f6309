-- $8 who, $9 why, $10 the heads whose holds are locked: another that was parked since is not touched.
with selected as materialized (
    select l.id from inbox.dead_letter as l
    where l.id in (select id from inbox.parked($1, $2, $3, $4, $5, $6, $7))
        and l.state in ('parked', 'held')
        and (l.id = any ($10) or not exists (
            select from inbox.key_hold as h
            where h.consumer = l.consumer and h.topic = l.topic and h.key_hash = l.key_hash and h.head = l.id
        ))
    -- In one order for all who lock several.
    order by l.seq
    for update
), given_up as (
    update inbox.dead_letter as l
    set state = 'discarded', ended_at = clock_timestamp(), replay = null
    from selected
    where l.id = selected.id
    returning l.id, l.consumer
), heads as (
    select h.consumer, h.topic, h.key_hash, waiting.next, waiting.held
    from inbox.key_hold as h
    join given_up on given_up.id = h.head
    cross join lateral (
        select (array_agg(w.id order by w.seq))[1] as next, count(*) as held
        from inbox.dead_letter as w
        where w.consumer = h.consumer and w.topic = h.topic and w.key_hash = h.key_hash and w.state = 'held' and w.id <> h.head
    ) as waiting
), over as (
    delete from inbox.key_hold as h using heads
    where heads.next is null and (h.consumer, h.topic, h.key_hash) = (heads.consumer, heads.topic, heads.key_hash)
), goes_on as (
    update inbox.key_hold as h set head = heads.next from heads
    where heads.next is not null and (h.consumer, h.topic, h.key_hash) = (heads.consumer, heads.topic, heads.key_hash)
), replays as (
    insert into inbox.replay (id, consumer, actor, reason, selected)
    select gen_random_uuid(), consumer, $8, $9, count(*) from heads where next is not null group by consumer
    returning id, consumer
), released as (
    update inbox.dead_letter as l set replay = replays.id
    from heads join replays using (consumer)
    where l.id = heads.next
), audited as (
    insert into inbox.audit (actor, action, consumer, dead_letter, reason)
    select $8, 'discarded', consumer, id, $9 from given_up
)
select (select count(*) from given_up) as discarded, (select coalesce(sum(held), 0) from heads)::bigint as released
