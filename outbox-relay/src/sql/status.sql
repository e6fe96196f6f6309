select epoch, owner is not null as held, system_identifier from outbox.cursor where name = 'main'
