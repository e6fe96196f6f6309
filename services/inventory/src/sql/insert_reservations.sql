-- As insert_reservation.sql, for the new reservations of a batch, each as the batch's last command leaves it.
insert into reservations (order_id, version, state, rejection, rejected_product, items, bucket, shipment_id, carrier,
    ship_time)
select order_id, version, state, rejection, rejected_product, items, bucket, shipment_id, carrier, ship_time
from unnest($1::uuid[], $2::integer[], $3::text[], $4::text[], $5::text[], $6::jsonb[], $7::smallint[], $8::uuid[],
        $9::text[], $10::timestamptz[])
    as new (order_id, version, state, rejection, rejected_product, items, bucket, shipment_id, carrier, ship_time)
on conflict on constraint reservations_pkey do nothing
