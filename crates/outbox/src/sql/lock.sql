-- One after another, in the caller's order.
select pg_advisory_xact_lock(hashtextextended(encode(k.key, 'hex'), 7321))
from unnest($1::bytea[]) with ordinality as k (key, position)
order by k.position
