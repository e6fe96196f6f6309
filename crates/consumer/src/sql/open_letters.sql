-- Both counts are made from indexes alone.
select topic, sum(letters)::bigint, sum(keys)::bigint
from (
    select topic, count(*) as letters, 0 as keys from inbox.dead_letter
    where consumer = $1 and state in ('parked', 'held') group by topic
    union all
    select topic, 0, count(*) from inbox.key_hold where consumer = $1 group by topic
) as open
group by topic
