-- $8 records a second, $9 who, $10 why. What another replay has is left to it, unless that was stopped.
with selected as materialized (
    select l.id, l.consumer from inbox.dead_letter as l
    where l.id in (select id from inbox.parked($1, $2, $3, $4, $5, $6, $7))
        and l.state in ('parked', 'held')
        and not exists (select from inbox.replay as r where r.id = l.replay and r.state <> 'stopped')
    -- In one order for all who lock several.
    order by l.seq
    for update
), consumers as materialized (
    select consumer, gen_random_uuid() as replay from (select distinct consumer from selected) as each
), taken as (
    update inbox.dead_letter as l
    set replay = consumers.replay
    from selected join consumers using (consumer)
    where l.id = selected.id
    returning l.id, l.consumer, l.replay
), audited as (
    insert into inbox.audit (actor, action, consumer, dead_letter, replay, reason)
    select $9, 'replay', consumer, id, replay, $10 from taken
)
insert into inbox.replay (id, consumer, actor, reason, rate, selected)
select replay, consumer, $9, $10, $8, count(*) from taken group by replay, consumer
returning id
