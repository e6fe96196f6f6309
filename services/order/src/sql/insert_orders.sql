insert into orders (order_id, customer_id, status, version, items, currency, total_minor, payment_id, stock, payment,
                    payment_token, request_id, request_hash, deadline, created_at, updated_at)
select order_id, customer_id, status, version, items, currency, total_minor, payment_id, stock, payment,
       payment_token, request_id, request_hash, deadline, created_at, created_at
from unnest($1::uuid[], $2::text[], $3::text[], $4::integer[], $5::jsonb[], $6::text[], $7::bigint[], $8::uuid[],
            $9::text[], $10::text[], $11::text[], $12::uuid[], $13::bytea[], $14::timestamptz[], $15::timestamptz[])
    as new (order_id, customer_id, status, version, items, currency, total_minor, payment_id, stock, payment,
            payment_token, request_id, request_hash, deadline, created_at)
-- In one order for all, or transactions that repeat the same requests could wait for each other.
order by customer_id, request_id
-- Somebody was first with this request id; a concurrent first one is waited for.
on conflict on constraint orders_request_key do nothing
returning order_id
