-- What Kafka will not take, kept apart so that everything else flows.

-- Events that are out of the cursor's way: refused ones, and those that wait behind a held key. A copy, because their
-- leaf may be truncated.
create table outbox.parked (
    -- Of outbox.event: the publishing order.
    id            bigint      constraint parked_pkey primary key,
    topic         text        not null,
    partition     integer,
    key           bytea,
    headers       bytea       not null,
    payload       bytea,
    created_at    timestamptz not null,
    -- Why it was refused; null where it only waits.
    reason        text,
    -- Whether its copy is in <topic>.outbox.dlq.
    dead_lettered boolean     not null default false,
    parked_at     timestamptz not null default clock_timestamp()
);
create index parked_key_idx on outbox.parked (topic, key, id);

-- Keys whose later events wait in outbox.parked.
create table outbox.hold (
    topic    text        not null,
    key      bytea       not null,
    reason   text        not null,
    since    timestamptz not null default clock_timestamp(),
    -- An operator lets it go on; the relay removes the hold once nothing waits any more.
    released boolean     not null default false,
    constraint hold_pkey primary key (topic, key)
);

-- Topics that cannot be published to. Each has a cursor of its own, until it has caught up with the main one.
create table outbox.lane (
    topic  text        constraint lane_pkey primary key,
    snap   pg_snapshot not null,
    win    pg_snapshot,
    win_id bigint      not null default 0,
    reason text        not null,
    since  timestamptz not null default clock_timestamp()
);

-- How many partitions each topic had when the relay first published to it: with another count, keys would move.
create table outbox.topic (
    topic      text    constraint topic_pkey primary key,
    partitions integer not null
);
