select h.head
from inbox.key_hold as h
where h.head in (select id from inbox.parked($1, $2, $3, $4, $5, $6, $7))
order by h.consumer, h.topic, h.key_hash
for update
