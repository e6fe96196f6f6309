-- The inbox: which records have taken effect here, and who may process a partition.

create sequence inbox.processing_seq cache 1;

-- One row per consumer and record, written in the transaction of the record's effects. The leaf is the day inside the
-- record's UUIDv7, not the day of arrival, so that a repeat after midnight meets the first occurrence.
create table inbox.message (
    slot         smallint    not null,
    consumer     text        not null,
    source       text        not null,
    id           text        not null,
    -- The order in which effects happened.
    seq          bigint      not null default nextval('inbox.processing_seq'),
    topic        text        not null,
    partition    integer     not null,
    "offset"     bigint      not null,
    processed_at timestamptz not null default clock_timestamp()
) partition by list (slot);

do $$
begin
    for leaf in 0..31 loop
        execute format('create table inbox.message_%1$s partition of inbox.message (primary key (consumer, source, id)) for values in (%1$s)', leaf);
    end loop;
end
$$;

-- A batch updates the rows of its partitions first, WHERE epoch = its own: an owner that was replaced finds no row.
create table inbox.fence (
    consumer   text        not null,
    topic      text        not null,
    partition  integer     not null,
    epoch      bigint      not null,
    owner      uuid        not null,
    updated_at timestamptz not null default clock_timestamp(),
    constraint fence_pkey primary key (consumer, topic, partition)
) with (fillfactor = 50);
