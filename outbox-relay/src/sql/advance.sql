-- Fenced: no row means that another relay has the lease.
update outbox.cursor
set snap = $3::text::pg_snapshot, win = $4::text::pg_snapshot, win_id = $5, published_id = greatest(published_id, $6)
where name = 'main' and epoch = $1 and owner = $2
returning pg_relation_size('outbox.cursor')
