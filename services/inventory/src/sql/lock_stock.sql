-- All of a product's buckets, so that no unit is counted twice.
select available, reserved
from stock
where product_id = $1
order by bucket
for update
