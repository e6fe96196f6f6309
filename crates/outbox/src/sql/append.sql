insert into outbox.event (event_id, topic, partition, key, aggregate_id, sequence, headers, payload)
select e.event_id, e.topic, e.partition, e.key, e.aggregate_id, e.sequence, e.headers, e.payload
from unnest($1::uuid[], $2::text[], $3::integer[], $4::bytea[], $5::text[], $6::bigint[], $7::bytea[], $8::bytea[])
    with ordinality as e (event_id, topic, partition, key, aggregate_id, sequence, headers, payload, position)
-- An event must not be announced before it is durable: switches synchronous_commit on, for this transaction, where it
-- is off. As a predicate it costs no round trip.
where current_setting('synchronous_commit') <> 'off'
   or set_config('synchronous_commit', 'on', true) is not null
-- Ids are drawn after the sort, so their order is the caller's.
order by e.position
