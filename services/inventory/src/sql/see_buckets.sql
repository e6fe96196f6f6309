-- What all buckets of these products hold, without waiting for anybody.
select product_id, bucket, available
from stock
where product_id = any($1::text[])
