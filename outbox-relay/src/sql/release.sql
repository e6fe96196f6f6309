update outbox.cursor set owner = null where name = 'main' and epoch = $1 and owner = $2
