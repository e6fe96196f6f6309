-- The count with which the topic was first published to; now, if it never was. $1 topic, $2 the broker's count
with first as (
    insert into outbox.topic (topic, partitions) values ($1, $2)
    on conflict (topic) do nothing
    returning partitions
)
select partitions from first
union all
select partitions from outbox.topic where topic = $1
limit 1
