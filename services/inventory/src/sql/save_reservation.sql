update reservations
set version = $3, state = $4, rejection = $5, rejected_product = $6, shipment_id = $7, carrier = $8, ship_time = $9,
    updated_at = now()
where order_id = $1 and version = $2
