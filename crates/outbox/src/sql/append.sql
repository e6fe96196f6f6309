insert into outbox.event (event_id, topic, partition, key, aggregate_id, sequence, headers, payload)
select e.event_id, e.topic, e.partition, e.key, e.aggregate_id, e.sequence, e.headers, e.payload
from unnest($1::uuid[], $2::text[], $3::integer[], $4::bytea[], $5::text[], $6::bigint[], $7::bytea[], $8::bytea[])
    with ordinality as e (event_id, topic, partition, key, aggregate_id, sequence, headers, payload, position)
-- Both predicates always hold; as predicates they cost no round trip.
-- An event must not be announced before it is durable: synchronous_commit goes on, for this transaction, where it is off.
where (current_setting('synchronous_commit') <> 'off' or set_config('synchronous_commit', 'on', true) is not null)
-- The relay may sleep: it is woken when this commits. PostgreSQL folds the rows' notifications into one.
    and (not $9 or pg_notify('outbox', '') is not null)
-- Ids are drawn after the sort, so their order is the caller's.
order by e.position
