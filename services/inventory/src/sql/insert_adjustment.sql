insert into adjustments (adjustment_id, product_id, delta, reason)
values ($1, $2, $3, $4)
-- The request was made before; a concurrent first one is waited for.
on conflict on constraint adjustments_pkey do nothing
