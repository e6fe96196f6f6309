-- The outbox: events wait here, in the database of the service that wrote them, until the relay has published them.
-- Append-only: no row is ever updated or deleted; a drained leaf is truncated as a whole.

-- CACHE 1 (the default) is essential: a session that hoards ids would insert them out of order.
create sequence outbox.event_id_seq cache 1;

-- Today's leaf, out of eight. A function of its own, so that a test can set the day.
create function outbox.slot() returns smallint
    language sql volatile
    set search_path = pg_catalog
    return ((extract(epoch from clock_timestamp())::bigint / 86400) % 8)::smallint;

create table outbox.event (
    slot         smallint    not null default outbox.slot(),
    -- The top-level transaction, also inside a savepoint: what a snapshot can be asked about.
    xid          xid8        not null default pg_current_xact_id(),
    id           bigint      not null default nextval('outbox.event_id_seq'),
    -- ce_id; null for a dead letter whose record had none.
    event_id     uuid,
    -- Logical name, without a deployment's prefix.
    topic        text        not null,
    -- Null: the relay computes it from the key.
    partition    integer,
    key          bytea,
    aggregate_id text,
    sequence     bigint,
    -- In wire order, duplicates and null values kept; see the crate's headers module.
    headers      bytea       not null,
    payload      bytea,
    created_at   timestamptz not null default clock_timestamp()
) partition by list (slot);

do $$
begin
    for leaf in 0..7 loop
        execute format('create table outbox.event_%1$s partition of outbox.event (primary key (xid, id)) for values in (%1$s)', leaf);
    end loop;
end
$$;

-- How far the relay has come. Everything that is visible in snap is published or parked.
create table outbox.cursor (
    name              text        constraint cursor_pkey primary key,
    snap              pg_snapshot not null,
    -- A backlog window that is being read in pages: (snap, win], up to win_id.
    win               pg_snapshot,
    win_id            bigint      not null default 0,
    -- The lease: every cursor write names the epoch and the owner, fresh per acquisition.
    epoch             bigint      not null default 0,
    owner             uuid,
    beat              bigint      not null default 0,
    -- The cluster that this cursor belongs to; null until the first acquisition.
    system_identifier bigint,
    timeline          integer,
    published_id      bigint      not null default 0
);

insert into outbox.cursor (name, snap) values ('main', pg_current_snapshot());
