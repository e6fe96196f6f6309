-- Read from the partial index of what is due: it has these rows and no others.
select channel, count(*) as count, greatest(extract(epoch from now() - min(created_at)), 0)::float8 as oldest_secs
from notifications
where status = 'PENDING'
group by channel
