select order_id, customer_id, status, status_reason, version, items, currency, total_minor, payment_id, created_at, updated_at
from orders
where order_id = $1
