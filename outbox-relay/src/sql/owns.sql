-- Locks the lease for this transaction. No row means that another relay has it.
select epoch from outbox.cursor where name = 'main' and epoch = $1 and owner = $2 for update
