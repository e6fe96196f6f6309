-- Writes what is available in buckets that are locked.
update stock
set available = put.available
from unnest($1::text[], $2::smallint[], $3::bigint[]) as put (product_id, bucket, available)
where stock.product_id = put.product_id and stock.bucket = put.bucket
