update inbox.fence as f
set updated_at = clock_timestamp(), next_offset = greatest(f.next_offset, mine.next_offset)
from unnest($2::text[], $3::integer[], $4::bigint[], $5::bigint[]) as mine (topic, partition, epoch, next_offset)
where f.consumer = $1
  and f.topic = mine.topic
  and f.partition = mine.partition
  -- Epochs are compared, never offsets: a replaced owner must not commit even what its successor has not reached.
  and f.epoch = mine.epoch
