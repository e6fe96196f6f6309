-- The schema in which an event was written; readers lift the older ones.
alter table order_events add column schema smallint not null default 1;

-- The defaults are right for a program of before that still runs.
-- What inventory and billing have of an order, and until when the next answer is waited for.
alter table orders
    add column stock         text        not null default 'NOT_WANTED' constraint orders_stock_known check (stock in
        ('NOT_WANTED', 'REQUESTED', 'RESERVED', 'SHIPPED', 'RELEASING', 'FREE')),
    add column payment       text        not null default 'REQUESTED' constraint orders_payment_known check (payment in
        ('NOT_WANTED', 'REQUESTED', 'TAKEN', 'REFUNDING', 'SETTLED')),
    add column outcome       text        constraint orders_outcome_known check (outcome in ('REJECTED', 'CANCELLED')),
    add column attention     text,
    add column attempts      integer     not null default 0,
    add column deadline      timestamptz,
    add column shipment      jsonb,
    -- For billing, until the payment is asked for.
    add column payment_token text;

-- Orders from before there was stock.
update orders
set payment = case status
        when 'PENDING' then 'REQUESTED'
        when 'PAID' then 'TAKEN'
        when 'CONFIRMED' then 'TAKEN'
        when 'COMPENSATING' then 'REFUNDING'
        else case when exists (
            select from order_events e where e.order_id = orders.order_id and e.event = 'LatePaymentFound')
            then 'REFUNDING' else 'SETTLED' end
    end,
    outcome = case status
        when 'COMPENSATING' then 'CANCELLED'
        when 'CANCELLED' then 'CANCELLED'
        when 'REJECTED' then 'REJECTED'
    end;
update orders set deadline = now() + interval '15 minutes' where status = 'PENDING' or payment = 'REFUNDING';

-- A payment id is drawn for its order and found nowhere else: no index is needed to keep it unique.
alter table orders drop constraint orders_payment_id_key;

-- What is due is found here, and nothing else is in it.
create index orders_deadline_idx on orders (deadline) where deadline is not null;

-- What the order service knows of the catalogue, from product-events.
create table products (
    product_id  text        constraint products_pkey primary key,
    name        text        not null,
    version     integer     not null,
    currency    text        not null,
    price_minor bigint      not null,
    archived    boolean     not null,
    updated_at  timestamptz not null default now()
);
