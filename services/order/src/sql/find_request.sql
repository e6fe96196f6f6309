select order_id, customer_id, status, status_reason, version, items, currency, total_minor, payment_id, created_at, updated_at,
       request_hash
from orders
where customer_id = $1 and request_id = $2
