select product_id, name, currency, price_minor, archived, version, created_at, updated_at
from products
where ($1::text is null or product_id > $1)
  and ($2::text = '' or position(lower($2) in lower(name)) > 0 or position(lower($2) in lower(product_id)) > 0)
  and ($3::boolean or not archived)
order by product_id
limit $4
