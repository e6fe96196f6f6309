insert into order_events (order_id, version, event, schema, data, occurred_at)
select $1, e.version, e.event, $4, e.data, e.occurred_at
from unnest($2::integer[], $3::text[], $5::jsonb[], $6::timestamptz[]) as e (version, event, data, occurred_at)
