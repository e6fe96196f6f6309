-- The first entry of the partial index; reservations that hold nothing are not in it.
select coalesce(greatest(extract(epoch from now() - min(created_at)), 0), 0)::float8
from reservations
where state = 'RESERVED'
