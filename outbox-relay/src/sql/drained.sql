-- A statement of its own, after the lock: nobody can have inserted into leaf $1 since its snapshot was taken.
-- No row of the answer means that another relay has the lease ($2 its epoch, $3 its owner).
select not exists (
    select from outbox.event
    cross join (select snap from outbox.cursor where name = 'main' union all select snap from outbox.lane) as every
    where slot = $1
        -- Only for the index: what is older is visible.
        and xid >= pg_snapshot_xmin(every.snap)
        and not pg_visible_in_snapshot(xid, every.snap)
) as drained
from outbox.cursor
where name = 'main' and epoch = $2 and owner = $3
