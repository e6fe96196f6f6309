-- How far each partition has been read, with the effects: Kafka's committed offset is only a hint. Null until the first
-- batch, and where an operator has accepted whatever comes.
alter table inbox.fence add column next_offset bigint;

-- An operator accepts that records are gone, or that a topic was made anew: the consumer goes on with what there is.
create function inbox.accept_offsets(of_consumer text, of_topic text, actor text, reason text) returns bigint
    language sql security definer set search_path = pg_catalog
begin atomic
    with accepted as (
        update inbox.fence set next_offset = null
        where consumer = of_consumer and topic = of_topic and next_offset is not null
        returning 1
    ), audited as (
        insert into inbox.audit (actor, action, consumer, reason)
        select actor, 'offsets-accepted', of_consumer, of_topic || ': ' || reason
    )
    select count(*) from accepted;
end;

revoke all on function inbox.accept_offsets(text, text, text, text) from public;
