select epoch, owner, beat, system_identifier, timeline, kafka_cluster_id,
    -- A cursor from the future of this cluster's transaction counter: it comes from somewhere else.
    pg_snapshot_xmax(snap) > pg_snapshot_xmax(pg_current_snapshot()) as ahead
from outbox.cursor
where name = 'main'
