-- A relay that publishes to the other Kafka loses its lease. How many partitions the topics had says nothing here.
with moved as (
    update outbox.cursor set kafka_cluster_id = $1, epoch = epoch + 1, owner = null where name = 'main'
)
delete from outbox.topic
