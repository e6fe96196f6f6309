-- The letter of this record, which was over, is parked again. Nothing where there is none.
with again as (
    update inbox.dead_letter as l
    set state = 'parked', replay = null, ended_at = null, kind = $4, error = $5, fingerprint = $6, attempts = l.attempts + $7,
        first_failed_at = coalesce(l.first_failed_at, $8), last_failed_at = clock_timestamp(), version = $9
    where l.consumer = $1 and l.source = $2 and l.event_id = $3 and l.state in ('replayed', 'discarded')
    returning l.id, l.attempts, l.replays, l.first_failed_at, l.last_failed_at
), audited as (
    insert into inbox.audit (actor, action, consumer, dead_letter, reason)
    select $1 || '/' || $9, 'parked', $1, id, $5 from again
)
select id, attempts, replays, first_failed_at, last_failed_at from again
