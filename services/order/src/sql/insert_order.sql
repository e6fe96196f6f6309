insert into orders (order_id, customer_id, status, version, items, currency, total_minor, payment_id, stock, payment,
                    payment_token, request_id, request_hash, deadline, created_at, updated_at)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $15)
-- Somebody was first with this request id; a concurrent first one is waited for.
on conflict on constraint orders_request_key do nothing
