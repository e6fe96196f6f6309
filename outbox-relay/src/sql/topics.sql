-- Topics that were published to, without those of dead letters.
select topic from outbox.topic where topic not like '%.outbox.dlq'
