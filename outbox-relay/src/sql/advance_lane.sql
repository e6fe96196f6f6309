-- Fenced by the main cursor's lease: $2 its epoch, $3 its owner.
update outbox.lane set snap = $4::text::pg_snapshot, win = $5::text::pg_snapshot, win_id = $6
where topic = $1
    and exists (select from outbox.cursor where name = 'main' and epoch = $2 and owner = $3)
