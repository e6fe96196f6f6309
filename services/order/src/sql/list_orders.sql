select order_id, customer_id, status, status_reason, version, items, currency, total_minor, payment_id, created_at, updated_at
from orders
where ($1::text is null or customer_id = $1)
  and ($2::text is null or status = $2)
  and ($3::uuid is null or order_id < $3)
order by order_id desc
limit $4
