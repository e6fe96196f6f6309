insert into outbox.overtaken (topic, key)
select topic, key from unnest($1::text[], $2::bytea[]) as o (topic, key)
on conflict (topic, key) do update set times = overtaken.times + 1, last = clock_timestamp()
