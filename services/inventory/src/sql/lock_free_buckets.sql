-- As lock_buckets.sql, but of those that nobody else is at.
select product_id, bucket, available
from stock
where product_id = any($2::text[]) and (bucket = $1 or available > 0)
order by product_id, bucket
for update skip locked
