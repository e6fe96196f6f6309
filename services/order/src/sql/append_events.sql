insert into order_events (order_id, version, event, schema, data, occurred_at)
select order_id, version, event, $4, data, occurred_at
from unnest($1::uuid[], $2::integer[], $3::text[], $5::jsonb[], $6::timestamptz[])
    as new (order_id, version, event, data, occurred_at)
