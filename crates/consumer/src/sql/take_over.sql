insert into inbox.fence as f (consumer, topic, partition, epoch, owner)
values ($1, $2, $3, 1, $4)
on conflict on constraint fence_pkey do update
    set epoch = f.epoch + 1, owner = excluded.owner, updated_at = clock_timestamp()
returning epoch, next_offset
