-- A refused event holds its key within its topic. A hold that was about to be lifted holds again.
insert into outbox.hold (topic, key, reason)
select distinct on (topic, key) topic, key, reason
from unnest($1::text[], $2::bytea[], $3::text[]) as h (topic, key, reason)
where key is not null and reason is not null
order by topic, key
on conflict (topic, key) do update set released = false, reason = excluded.reason
