-- Fenced: no row means that another relay has the lease.
update outbox.cursor set beat = beat + 1 where name = 'main' and epoch = $1 and owner = $2
