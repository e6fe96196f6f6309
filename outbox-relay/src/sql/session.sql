-- $1 the name that this session gave itself: a transaction pooler would answer with another session's settings.
select pg_is_in_recovery() as in_recovery,
    current_setting('application_name') = $1
        and current_setting('plan_cache_mode') = 'force_generic_plan'
        and current_setting('enable_seqscan') = 'off' as direct,
    current_setting('transaction_read_only') = 'on' as read_only,
    extract(epoch from pg_postmaster_start_time())::text as started,
    (select system_identifier from pg_control_system()) as system_identifier,
    case when pg_is_in_recovery() then 0
        else ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::integer end as timeline
