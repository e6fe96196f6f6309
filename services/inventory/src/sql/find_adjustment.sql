select adjustment_id, product_id, delta, reason
from adjustments
where adjustment_id = $1
