-- By the index on the status: what it costs grows with what is open, and not with what there is.
select status, count(*) as orders, extract(epoch from now() - min(updated_at))::float8 as oldest_seconds
from orders
where status in ('PENDING', 'STOCK_RESERVED', 'PAID', 'COMPENSATING', 'NEEDS_ATTENTION')
group by status
