-- The topic goes on, later, from where the durable cursor is now. Fenced by the lease: $3 its epoch, $4 its owner.
insert into outbox.lane (topic, snap, win, win_id, reason)
select $1, snap, win, win_id, $2 from outbox.cursor where name = 'main' and epoch = $3 and owner = $4
on conflict (topic) do update set reason = excluded.reason
