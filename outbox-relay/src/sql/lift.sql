-- Only when nothing waits any more, and only when nothing of the key was refused meanwhile.
delete from outbox.hold
where topic = $1 and key = $2 and released
    and not exists (select from outbox.parked where parked.topic = $1 and parked.key = $2)
