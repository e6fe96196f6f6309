-- The next parked events of a key, in publishing order.
select id, topic, partition, key, headers, payload, extract(epoch from created_at)::float8 as created_at
from outbox.parked
where topic = $1 and key = $2
order by id
limit $3
