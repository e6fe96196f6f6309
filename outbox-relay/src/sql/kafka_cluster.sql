-- The cluster.id of the Kafka that has what was published; $1, where nothing was. No row means that another relay has the
-- lease.
update outbox.cursor set kafka_cluster_id = coalesce(kafka_cluster_id, $1)
where name = 'main' and epoch = $2 and owner = $3
returning kafka_cluster_id
