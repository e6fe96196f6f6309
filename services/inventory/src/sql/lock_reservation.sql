select order_id, version, state, rejection, rejected_product, items, bucket, shipment_id, carrier, ship_time
from reservations
where order_id = $1
-- Every writer of a reservation holds this lock before it reads what its answer will say.
for update
