insert into inbox.message (slot, consumer, source, id, topic, partition, "offset")
select m.slot, $1, m.source, m.id, m.topic, m.partition, m.position_in_log
from unnest($2::smallint[], $3::text[], $4::text[], $5::text[], $6::integer[], $7::bigint[])
    with ordinality as m (slot, source, id, topic, partition, position_in_log, position)
-- The processing sequence follows the order of the batch.
order by m.position
-- A repeat, also one within this batch.
on conflict do nothing
returning source, id
