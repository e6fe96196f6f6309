select id, rate, actor, reason
from inbox.replay
where consumer = $1 and state = 'running' and next_at <= clock_timestamp()
order by next_at
limit 1
-- One worker at a time keeps its rate.
for update skip locked
