insert into stock (product_id, bucket, available)
select $1, bucket, available
from unnest($2::smallint[], $3::bigint[]) as new (bucket, available)
