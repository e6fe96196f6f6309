select order_id, customer_id, status, status_reason, attention, version, items, currency, total_minor, payment_id,
       stock, payment, shipment, outcome, attempts, deadline, created_at, updated_at, payment_token
from orders
where order_id = any($1)
-- In one order for all, or writers of several orders could wait for each other.
order by order_id
-- Every writer of an order holds this lock before it reads what its events will say.
for update
