-- Only while the topic waits in its lane: then nothing of it is on its way.
update outbox.topic set partitions = $2
where topic = $1 and exists (select from outbox.lane where topic = $1)
