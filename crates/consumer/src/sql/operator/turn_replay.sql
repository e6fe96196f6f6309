with turned as (
    update inbox.replay
    set state = $3,
        words = case when $3 = 'stopped' then $6 end,
        ended_at = case when $3 = 'stopped' then clock_timestamp() end,
        -- What was not used of the rate meanwhile is not made up for.
        next_at = clock_timestamp()
    where id = $1 and state = $2
    returning id, consumer
)
insert into inbox.audit (actor, action, consumer, replay, reason)
select $5, $4, consumer, id, $6 from turned
