select topic, snap::text as snap, win::text as win, win_id, reason, extract(epoch from since)::float8 as since
from outbox.lane
order by topic
