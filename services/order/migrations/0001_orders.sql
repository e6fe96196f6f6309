-- The truth: what has happened to each order, append-only.
create table order_events (
    order_id    uuid        not null,
    -- 1 for the first event of an order, and so on without a gap.
    version     integer     not null constraint order_events_version_positive check (version > 0),
    event       text        not null,
    data        jsonb       not null,
    occurred_at timestamptz not null default clock_timestamp(),
    -- Two writers of one version cannot both commit.
    constraint order_events_pkey primary key (order_id, version)
);

-- The view: each order after its last event, written in the same transaction.
create table orders (
    order_id      uuid        constraint orders_pkey primary key,
    customer_id   text        not null,
    status        text        not null constraint orders_status_known check (status in
        ('PENDING', 'STOCK_RESERVED', 'PAID', 'CONFIRMED', 'COMPENSATING', 'REJECTED', 'CANCELLED', 'NEEDS_ATTENTION')),
    status_reason text,
    version       integer     not null,
    items         jsonb       not null,
    currency      text        not null,
    total_minor   bigint      not null constraint orders_total_positive check (total_minor > 0),
    payment_id    uuid        not null constraint orders_payment_id_key unique,
    request_id    uuid,
    request_hash  bytea,
    created_at    timestamptz not null,
    updated_at    timestamptz not null,
    -- A request id belongs to its customer, as long as the order lives.
    constraint orders_request_key unique (customer_id, request_id)
);

-- Order ids are UUIDv7, so an index on them is one on creation time.
create index orders_customer_idx on orders (customer_id, order_id desc);
create index orders_status_idx on orders (status, order_id desc);
