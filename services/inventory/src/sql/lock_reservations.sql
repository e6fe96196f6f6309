-- As lock_reservation.sql, for the orders of a batch.
select order_id, version, state, rejection, rejected_product, items, bucket, shipment_id, carrier, ship_time
from reservations
where order_id = any($1::uuid[])
order by order_id
for update
