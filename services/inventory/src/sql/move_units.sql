-- Adds what a batch has moved to buckets that are locked.
update stock
set available = stock.available + moved.available, reserved = stock.reserved + moved.reserved
from unnest($1::text[], $2::smallint[], $3::bigint[], $4::bigint[]) as moved (product_id, bucket, available, reserved)
where stock.product_id = moved.product_id and stock.bucket = moved.bucket
