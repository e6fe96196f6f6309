update products
set name = $3, currency = $4, price_minor = $5, archived = $6, version = $7, announced_at = now(), updated_at = now()
where product_id = $1 and version = $2
returning updated_at
