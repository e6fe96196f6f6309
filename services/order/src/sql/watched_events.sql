-- The new events of many orders.
select event.order_id, event.version, event.event, event.schema, event.occurred_at,
       -- What was ordered is no part of a transition, and may be large.
       case event.event when 'OrderPlaced' then event.data || '{"items": []}' else event.data end as data
from unnest($1::uuid[], $2::integer[]) as watched (order_id, known)
cross join lateral (
    select *
    from order_events
    where order_events.order_id = watched.order_id and order_events.version > watched.known
    -- A look into the primary key for each order, whatever the planner thinks of the table's size.
    offset 0
) as event
order by event.order_id, event.version
