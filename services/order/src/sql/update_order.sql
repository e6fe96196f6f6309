update orders
set status = $2, status_reason = $3, version = $4, updated_at = $5
where order_id = $1
