select sum(available)::bigint, sum(reserved)::bigint
from stock
where product_id = $1
having count(*) > 0
