select h.topic, k.key, h.head
from (select distinct topic, key from unnest($2::text[], $3::bytea[]) as given (topic, key)) as k
join inbox.key_hold as h on h.consumer = $1 and h.topic = k.topic and h.key_hash = sha256(k.key)
-- In one order for all who lock several.
order by h.topic, h.key_hash
for update of h
