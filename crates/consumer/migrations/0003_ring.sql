-- The inbox is a ring of 32 leaves, one a day. Records whose id is older than 28 days are not taken any more, nor those
-- of tomorrow's morrow, so that two leaves always hold nothing that can still be asked for.

-- Empties them; to be called every day, and late or never does no harm but the space. Returns how many it emptied.
create function inbox.clear_expired() returns integer
    language plpgsql security definer set search_path = pg_catalog set lock_timeout = '1s'
as $$
declare
    today   bigint  := floor(extract(epoch from clock_timestamp()) / 86400);
    cleared integer := 0;
    filled  boolean;
begin
    for ahead in 2..3 loop
        execute format('select exists (select from inbox.message_%s)', (today + ahead) % 32) into filled;
        if filled then
            execute format('truncate inbox.message_%s', (today + ahead) % 32);
            cleared := cleared + 1;
        end if;
    end loop;
    return cleared;
end
$$;

revoke all on function inbox.clear_expired() from public;
