-- How these customers want to be told; who has never said is not among them.
select customer_id, channel, email_address, webhook_url, webhook_secret
from settings
where customer_id = any($1::text[])
