-- The buckets that a batch may take from or give back to. One that is not there belongs to a product that is not there.
select stock.product_id, stock.bucket, stock.available, not products.archived as sold
from unnest($1::text[], $2::smallint[]) as place (product_id, bucket)
join stock on stock.product_id = place.product_id and stock.bucket = place.bucket
join products on products.product_id = stock.product_id
-- In one order for all, or batches of the same products could wait for each other.
order by stock.product_id, stock.bucket
for update of stock
