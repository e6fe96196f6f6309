-- $8 records a second, $9 who, $10 why.
with selected as (
    select id, consumer from inbox.parked($1, $2, $3, $4, $5, $6, $7) where replay is null
), consumers as materialized (
    select consumer, gen_random_uuid() as replay from (select distinct consumer from selected) as each
), taken as (
    update inbox.dead_letter as l
    set replay = consumers.replay
    from selected join consumers using (consumer)
    -- Again: another may have taken it since.
    where l.id = selected.id and l.replay is null and l.state = 'parked'
    returning l.id, l.consumer, l.replay
), audited as (
    insert into inbox.audit (actor, action, consumer, dead_letter, replay, reason)
    select $9, 'replay', consumer, id, replay, $10 from taken
)
insert into inbox.replay (id, consumer, actor, reason, rate, selected)
select replay, consumer, $9, $10, $8, count(*) from taken group by replay, consumer
returning id
