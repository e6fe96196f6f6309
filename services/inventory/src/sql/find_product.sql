select product_id, name, currency, price_minor, archived, version, created_at, updated_at
from products
where product_id = $1
