-- An outbox belongs to one PostgreSQL cluster, whose transaction ids its cursor speaks of, and to one Kafka cluster.

-- Kafka's cluster.id; null until the relay has first published.
alter table outbox.cursor add column kafka_cluster_id text;

update outbox.cursor set system_identifier = (select system_identifier from pg_control_system())
where system_identifier is null;

create function outbox.check_cluster() returns void
    language plpgsql security definer set search_path = pg_catalog
as $$
begin
    if exists (
        select from outbox.cursor, pg_control_system() as server
        where cursor.system_identifier <> server.system_identifier
            or pg_snapshot_xmax(cursor.snap) > pg_snapshot_xmax(pg_current_snapshot())
    ) then
        raise exception 'the outbox was made in another PostgreSQL cluster' using
            errcode = 'object_not_in_prerequisite_state',
            hint = 'Transaction ids start anew here, so events could be taken for published. Run `outbox-relay rebase`.';
    end if;
end
$$;

-- Once in each session: a session has one cluster.
create function outbox.admit() returns trigger
    language plpgsql
as $$
begin
    if current_setting('outbox.admitted', true) is distinct from 'on' then
        perform outbox.check_cluster();
        perform set_config('outbox.admitted', 'on', false);
    end if;
    return null;
end
$$;

create trigger admit before insert on outbox.event
    for each statement execute function outbox.admit();

-- As before, without a search path of its own, which a body that is parsed when it is made does not need: with one it
-- cannot be inlined, and was planned anew for each insert, which took a third of it.
create or replace function outbox.slot() returns smallint
    language sql volatile
    return ((extract(epoch from clock_timestamp())::bigint / 86400) % 8)::smallint;

-- Makes the outbox this cluster's, after a restore or an upgrade: what the cursor or a lane does not cover is given
-- this transaction's id, and is published in the order of the ids; what they cover goes. Says how many rows of each;
-- null where the cursor is this cluster's already.
create function outbox.rebase(out unpublished bigint, out published bigint)
    language plpgsql security definer set search_path = pg_catalog
as $$
declare
    main outbox.cursor;
    me xid8 := pg_current_xact_id();
    now_open xid8[];
    start pg_snapshot;
begin
    -- Until the end nobody appends; whoever has appended has ended.
    lock table outbox.event in access exclusive mode;
    select * into strict main from outbox.cursor where name = 'main' for update;
    if main.system_identifier = (select system_identifier from pg_control_system())
        and pg_snapshot_xmax(main.snap) <= pg_snapshot_xmax(pg_current_snapshot())
    then
        return;
    end if;
    with place as (
        select event.xid, event.id, event.slot,
            coalesce(lane.snap, main.snap) as snap,
            case when lane.topic is null then main.win else lane.win end as win,
            coalesce(lane.win_id, main.win_id) as win_id
        from outbox.event left join outbox.lane using (topic)
    )
    delete from outbox.event using place
    where event.slot = place.slot and event.xid = place.xid and event.id = place.id
        and (
            pg_visible_in_snapshot(place.xid, place.snap)
            or place.id <= place.win_id and pg_visible_in_snapshot(place.xid, place.win)
        );
    get diagnostics published = row_count;
    update outbox.event set xid = me;
    get diagnostics unpublished = row_count;
    -- Shows what has ended before this transaction began, and so neither this one nor any that may still append.
    select coalesce(array_agg(xip), '{}') into now_open from pg_snapshot_xip(pg_current_snapshot()) as xip where xip < me;
    start := format('%s:%s:%s', coalesce((select min(open::text::bigint) from unnest(now_open) as open), me::text::bigint), me,
        array_to_string(now_open, ','));
    update outbox.lane set snap = start, win = null, win_id = 0;
    update outbox.cursor
    set snap = start, win = null, win_id = 0, epoch = epoch + 1, owner = null, timeline = null,
        system_identifier = (select system_identifier from pg_control_system())
    where name = 'main';
end
$$;
revoke execute on function outbox.rebase() from public;

-- Keys of which Kafka took a later event before an earlier one. The relay keeps that from happening wherever it can
-- know better; this is what has happened all the same, until an operator has seen it.
create table outbox.overtaken (
    topic text        not null,
    key   bytea       not null,
    times bigint      not null default 1,
    since timestamptz not null default clock_timestamp(),
    last  timestamptz not null default clock_timestamp(),
    constraint overtaken_pkey primary key (topic, key)
);
