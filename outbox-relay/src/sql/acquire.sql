-- Takes the lease from exactly the owner, epoch and beat that were observed: of two standbys one gets it.
update outbox.cursor
set epoch = epoch + 1, owner = $1, beat = beat + 1, system_identifier = $5, timeline = $6
where name = 'main' and epoch = $2 and owner is not distinct from $3 and beat = $4
returning epoch, snap::text as snap, win::text as win, win_id
