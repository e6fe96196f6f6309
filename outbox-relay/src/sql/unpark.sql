delete from outbox.parked where id = any ($1)
