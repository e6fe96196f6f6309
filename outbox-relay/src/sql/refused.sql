select coalesce(array_agg(id order by id) filter (where reason is not null), '{}') as heads,
    count(*) filter (where reason is not null and not dead_lettered) as uncopied,
    count(*) filter (where reason is null) as waiting
from outbox.parked
where topic = $1 and key = $2
