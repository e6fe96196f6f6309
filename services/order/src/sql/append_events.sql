insert into order_events (order_id, version, event, data, occurred_at)
select $1, e.version, e.event, e.data, $5
from unnest($2::integer[], $3::text[], $4::jsonb[]) as e (version, event, data)
