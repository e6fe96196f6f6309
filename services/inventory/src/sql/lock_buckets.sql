-- Empty buckets have nothing to give: not to lock them keeps workers that look for the last units from each other's way.
select product_id, bucket, available
from stock
where product_id = any($2::text[]) and (bucket = $1 or available > 0)
order by product_id, bucket
for update
