with parked as (
    insert into inbox.dead_letter (id, consumer, topic, partition, "offset", key, source, event_id, event_type, headers,
        payload, recorded_at, state, kind, error, fingerprint, attempts, first_failed_at, last_failed_at, version, trace_id)
    select l.id, $1, l.topic, l.partition, l.place, l.key, l.source, l.event_id, l.event_type, l.headers,
        l.payload, to_timestamp(l.recorded), l.state, l.kind, l.error, l.fingerprint, l.attempts, l.failed_at, l.last_failed_at,
        l.version, l.trace_id
    from unnest($2::uuid[], $3::text[], $4::integer[], $5::bigint[], $6::bytea[], $7::text[], $8::text[], $9::text[],
            $10::bytea[], $11::bytea[], $12::double precision[], $13::text[], $14::text[], $15::text[], $16::text[],
            $17::integer[], $18::timestamptz[], $19::text[], $20::text[], $21::timestamptz[])
        with ordinality as l (id, topic, partition, place, key, source, event_id, event_type, headers, payload, recorded,
            state, kind, error, fingerprint, attempts, failed_at, version, trace_id, last_failed_at, position)
    order by l.position
    returning id, state, error, version
)
insert into inbox.audit (actor, action, consumer, dead_letter, reason)
select $1 || coalesce('/' || version, ''), state, $1, id, coalesce(error, 'waits behind a dead letter of its key') from parked
