select product_id, name, currency, price_minor, archived, version, created_at, updated_at
from products
where product_id = $1
-- Every writer of a product holds this lock before it reads what its event will say.
for update
