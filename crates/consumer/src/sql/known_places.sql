select l.topic, l.partition, l."offset"
from inbox.dead_letter as l
join unnest($2::text[], $3::integer[], $4::bigint[]) as place (topic, partition, position)
    on l.topic = place.topic and l.partition = place.partition and l."offset" = place.position
where l.consumer = $1 and l.event_id is null
