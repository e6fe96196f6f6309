-- The lane has caught up with the cursor, which does not move meanwhile.
delete from outbox.lane
where topic = $1
    and exists (select from outbox.cursor where name = 'main' and epoch = $2 and owner = $3)
