-- The leaves that have rows.
select leaf.slot, outbox.slot() as today
from (
    select 0::smallint where exists (select from outbox.event_0) union all
    select 1::smallint where exists (select from outbox.event_1) union all
    select 2::smallint where exists (select from outbox.event_2) union all
    select 3::smallint where exists (select from outbox.event_3) union all
    select 4::smallint where exists (select from outbox.event_4) union all
    select 5::smallint where exists (select from outbox.event_5) union all
    select 6::smallint where exists (select from outbox.event_6) union all
    select 7::smallint where exists (select from outbox.event_7)
) as leaf (slot)
order by leaf.slot
