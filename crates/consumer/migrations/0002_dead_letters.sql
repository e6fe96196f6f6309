-- What a consumer could not process, what waits behind it, and what operators did about it. The truth; the records in
-- <topic>.<group>.dlq are a copy.

create table inbox.dead_letter (
    id              uuid        constraint dead_letter_pkey primary key,
    -- The order within a key.
    seq             bigint      not null generated always as identity,
    consumer        text        not null,
    topic           text        not null,
    partition       integer     not null,
    "offset"        bigint      not null,
    key             bytea,
    -- A key may be longer than an index takes.
    key_hash        bytea       generated always as (sha256(key)) stored,
    -- Of the record's headers, where they are what they should be.
    source          text,
    event_type      text,
    -- Null where the record is not in the inbox: it has no id, or one of a time that the inbox does not remember.
    event_id        text,
    -- In wire order; see the outbox crate's headers module.
    headers         bytea       not null,
    payload         bytea,
    recorded_at     timestamptz,
    -- parked: it failed. held: it waits behind one that failed. The rest is over.
    state           text        not null
        constraint dead_letter_state_check check (state in ('parked', 'held', 'replayed', 'discarded')),
    -- Null while it has not failed itself, as the others below.
    kind            text,
    error           text,
    -- The same for errors that differ in numbers and ids only.
    fingerprint     text,
    -- Times that the handler was run.
    attempts        integer     not null default 0,
    -- Times that it was replayed.
    replays         integer     not null default 0,
    first_failed_at timestamptz,
    last_failed_at  timestamptz,
    -- The program that it failed in.
    version         text,
    trace_id        text,
    parked_at       timestamptz not null default clock_timestamp(),
    ended_at        timestamptz,
    -- The replay that is to process it.
    replay          uuid
);

create index dead_letter_key_idx on inbox.dead_letter (consumer, topic, key_hash, seq) where state in ('parked', 'held');
create index dead_letter_replay_idx on inbox.dead_letter (replay, seq) where state in ('parked', 'held');
create index dead_letter_group_idx on inbox.dead_letter (consumer, event_type, fingerprint) where state in ('parked', 'held');
-- A second delivery of what is not in the inbox is known by its place.
create unique index dead_letter_place_idx on inbox.dead_letter (consumer, topic, partition, "offset") where event_id is null;

-- Keys whose later records wait. Whoever processes or parks one of the key's records locks its row first.
create table inbox.key_hold (
    consumer text        not null,
    topic    text        not null,
    key_hash bytea       not null,
    -- The dead letter that all others of the key wait for.
    head     uuid        not null,
    since    timestamptz not null default clock_timestamp(),
    constraint key_hold_pkey primary key (consumer, topic, key_hash)
);

-- An order to process dead letters again, carried out by the consumer's workers.
create table inbox.replay (
    id         uuid             constraint replay_pkey primary key,
    consumer   text             not null,
    actor      text             not null,
    reason     text             not null,
    selected   bigint           not null,
    -- Records a second; null for as fast as they go.
    rate       double precision constraint replay_rate_check check (rate between 0.001 and 1000000),
    state      text             not null default 'running'
        constraint replay_state_check check (state in ('running', 'stopped', 'done')),
    -- Why it was stopped.
    words      text,
    created_at timestamptz      not null default clock_timestamp(),
    next_at    timestamptz      not null default clock_timestamp(),
    ended_at   timestamptz
);

create index replay_running_idx on inbox.replay (consumer) where state = 'running';

-- Append-only: who did what to which dead letter, and why.
create table inbox.audit (
    seq         bigint      constraint audit_pkey primary key generated always as identity,
    at          timestamptz not null default clock_timestamp(),
    actor       text        not null,
    action      text        not null,
    consumer    text        not null,
    dead_letter uuid,
    replay      uuid,
    reason      text        not null
);

create index audit_replay_idx on inbox.audit (replay, action);
create index audit_dead_letter_idx on inbox.audit (dead_letter, seq);

create function inbox.refuse() returns trigger
    language plpgsql
as $$
begin
    raise exception 'inbox.audit is append-only';
end
$$;

create trigger append_only before update or delete or truncate on inbox.audit
    for each statement execute function inbox.refuse();

-- The letters that a filter selects of those that an operator decides about; what is null, or an empty list, selects all.
create function inbox.parked(
    ids uuid[], of_consumer text, of_topic text, of_event_type text, of_kind text, of_fingerprint text, of_key bytea
) returns setof inbox.dead_letter
    language sql stable
begin atomic
    select l.* from inbox.dead_letter as l
    where (l.state = 'parked'
            -- It would be next in a replay that was stopped, and everything waits for it.
            or (l.state = 'held' and exists (select from inbox.replay as r where r.id = l.replay and r.state = 'stopped')))
        and (cardinality(ids) = 0 or l.id = any (ids))
        and (of_consumer is null or l.consumer = of_consumer)
        and (of_topic is null or l.topic = of_topic)
        and (of_event_type is null or l.event_type = of_event_type)
        and (of_kind is null or l.kind = of_kind)
        and (of_fingerprint is null or l.fingerprint = of_fingerprint)
        and (of_key is null or l.key_hash = sha256(of_key));
end;
