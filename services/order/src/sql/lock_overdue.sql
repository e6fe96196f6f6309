select order_id
from orders
where deadline <= $1
order by deadline
limit $2
-- Whoever changes an order at this moment also moves its deadline; another replica has the others.
for update skip locked
