-- What customers are told, and how they want to be told.
-- Contact data (email_address) is for the service alone: schema.rs grants the audit role every other column.

create table settings (
    customer_id   text        constraint settings_pkey primary key,
    channel       text        not null constraint settings_channel check (channel in ('LOG', 'EMAIL')),
    email_address text,
    updated_at    timestamptz not null default now(),
    constraint settings_address_of_channel check ((channel = 'EMAIL') = (email_address is not null))
);

-- The intent to tell, written by the consumer, and its outcome, written by the dispatcher.
create table notifications (
    -- UUIDv7, also the Message-ID of the e-mail.
    notification_id uuid        constraint notifications_pkey primary key,
    -- Order of requests: one order's are made one after the other, so its notifications go out in this order.
    position        bigint      not null generated always as identity,
    order_id        uuid        not null,
    customer_id     text        not null,
    kind            text        not null constraint notifications_kind check (
        kind in ('PAYMENT_RECEIPT', 'ORDER_CONFIRMED', 'ORDER_REJECTED', 'ORDER_CANCELLED')),
    -- The customer's settings when it was requested.
    channel         text        not null constraint notifications_channel check (channel in ('LOG', 'EMAIL')),
    email_address   text,
    status          text        not null default 'PENDING' constraint notifications_status check (
        status in ('PENDING', 'DELIVERED')),
    subject         text        not null,
    body            text        not null,
    attempts        integer     not null default 0,
    next_attempt_at timestamptz not null default now(),
    -- A dispatcher delivers it until then; after a crash the lease runs out and another one takes over.
    claimed_until   timestamptz,
    created_at      timestamptz not null default now(),
    delivered_at    timestamptz,
    constraint notifications_once_per_order unique (order_id, kind),
    constraint notifications_address_of_channel check ((channel = 'EMAIL') = (email_address is not null)),
    constraint notifications_delivered_at check ((status = 'DELIVERED') = (delivered_at is not null))
);

create index notifications_by_customer on notifications (customer_id, notification_id);
create index notifications_due on notifications (next_attempt_at) where status = 'PENDING';
create index notifications_pending_of_order on notifications (order_id, position) where status = 'PENDING';
