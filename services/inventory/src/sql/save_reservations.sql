-- As save_reservation.sql, for the locked reservations of a batch.
update reservations
set version = new.version, state = new.state, rejection = new.rejection, rejected_product = new.rejected_product,
    shipment_id = new.shipment_id, carrier = new.carrier, ship_time = new.ship_time, updated_at = now()
from unnest($1::uuid[], $2::integer[], $3::integer[], $4::text[], $5::text[], $6::text[], $7::uuid[], $8::text[],
        $9::timestamptz[])
    as new (order_id, before, version, state, rejection, rejected_product, shipment_id, carrier, ship_time)
where reservations.order_id = new.order_id and reservations.version = new.before
