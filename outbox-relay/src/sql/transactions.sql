-- Open transactions of this database that have written, and how long each has been open, where this role may see that: of
-- others' only with pg_read_all_stats. What is prepared belongs to no session.
select backend_xid::text::bigint as xid, extract(epoch from clock_timestamp() - xact_start)::float8 as seconds
from pg_stat_activity
where datname = current_database() and backend_xid is not null and pid <> pg_backend_pid()
union all
select transaction::text::bigint, extract(epoch from clock_timestamp() - prepared)::float8
from pg_prepared_xacts
where database = current_database()
