select order_id, customer_id, status, status_reason, attention, version, items, currency, total_minor, payment_id,
       stock, payment, shipment, outcome, attempts, deadline, created_at, updated_at,
       request_hash
from orders
where customer_id = $1 and request_id = $2
