insert into reservations (order_id, version, state, rejection, rejected_product, items, bucket)
values ($1, $2, $3, $4, $5, $6, $7)
-- Another command was first; one that is on its way is waited for.
on conflict on constraint reservations_pkey do nothing
