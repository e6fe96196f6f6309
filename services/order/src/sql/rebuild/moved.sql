-- Every order that is not in both tables in the same version, with the rebuilt version.
select order_id, rebuilt.version
from orders as live
full join orders_rebuilt as rebuilt using (order_id)
where live.version is distinct from rebuilt.version
   -- What is carried over changes with the version. Should anything else change it, that counts, too.
   or (live.request_id, live.request_hash, live.payment_token, live.deadline)
      is distinct from (rebuilt.request_id, rebuilt.request_hash, rebuilt.payment_token, rebuilt.deadline)
