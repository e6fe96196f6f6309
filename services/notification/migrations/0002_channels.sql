-- More kinds, the webhook channel, and an end for what no channel takes.
-- A webhook's URL and secret are for the service alone, as an e-mail address is.

alter table settings
    add column webhook_url text,
    add column webhook_secret text,
    drop constraint settings_channel,
    drop constraint settings_address_of_channel,
    add constraint settings_channel check (channel in ('LOG', 'EMAIL', 'WEBHOOK')),
    add constraint settings_address_of_channel check (
        (channel = 'EMAIL') = (email_address is not null)
        and (channel = 'WEBHOOK') = (webhook_url is not null)
        and (channel = 'WEBHOOK') = (webhook_secret is not null));

alter table notifications
    add column webhook_url text,
    -- Gone when the notification is at its end.
    add column webhook_secret text,
    add column first_attempt_at timestamptz,
    -- The record that requested it, for a dead letter: only where the channel can refuse it, and until its end. Null, too,
    -- for what was requested before there were such columns: that is tried for ever.
    add column record_topic text,
    add column record_partition integer,
    add column record_offset bigint,
    add column record_key bytea,
    add column record_headers bytea,
    add column record_payload bytea,
    add column record_ms bigint,
    drop constraint notifications_kind,
    drop constraint notifications_channel,
    drop constraint notifications_status,
    drop constraint notifications_address_of_channel,
    add constraint notifications_kind check (kind in (
        'PAYMENT_RECEIPT', 'ORDER_CONFIRMED', 'ORDER_REJECTED', 'ORDER_CANCELLED', 'ORDER_REFUNDED', 'ORDER_SHIPPED')),
    add constraint notifications_channel check (channel in ('LOG', 'EMAIL', 'WEBHOOK')),
    add constraint notifications_status check (status in ('PENDING', 'DELIVERED', 'GIVEN_UP')),
    add constraint notifications_address_of_channel check (
        (channel = 'EMAIL') = (email_address is not null)
        and (channel = 'WEBHOOK') = (webhook_url is not null)
        and (channel = 'WEBHOOK' and status = 'PENDING') = (webhook_secret is not null)),
    add constraint notifications_record_until_the_end check (
        status = 'PENDING' and channel <> 'LOG' or record_headers is null);

-- Each channel has a dispatcher of its own.
drop index notifications_due;
-- The constraint notifications_once_per_order has an index that serves as well.
drop index notifications_pending_of_order;
create index notifications_due_on_channel on notifications (channel, next_attempt_at) where status = 'PENDING';
