-- One notification for each order and kind, however often it is requested.
insert into notifications (notification_id, order_id, customer_id, kind, channel, email_address, subject, body)
values ($1, $2, $3, $4, $5, $6, $7, $8)
on conflict on constraint notifications_once_per_order do nothing
