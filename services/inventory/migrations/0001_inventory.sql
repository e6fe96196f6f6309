-- The catalogue. Each version of a product is one ProductUpserted on product-events.
CREATE TABLE products (
    -- Compared by bytes, so that a page's end means the same everywhere.
    product_id   text COLLATE "C" NOT NULL CONSTRAINT products_pkey PRIMARY KEY,
    name         text        NOT NULL,
    currency     text        NOT NULL CONSTRAINT products_currency_check CHECK (currency ~ '^[A-Z]{3}$'),
    price_minor  bigint      NOT NULL CONSTRAINT products_price_check CHECK (price_minor > 0),
    archived     boolean     NOT NULL,
    version      integer     NOT NULL CONSTRAINT products_version_check CHECK (version > 0),
    announced_at timestamptz NOT NULL DEFAULT now(),
    created_at   timestamptz NOT NULL DEFAULT now(),
    updated_at   timestamptz NOT NULL DEFAULT now()
);

-- What the daily repetition looks for.
CREATE INDEX products_announced_idx ON products (announced_at);

-- A product's units lie in 16 buckets, so that workers do not wait for each other over a product that everybody buys: each
-- takes from the bucket of its own partition. The checks are the last guard against selling what is not there.
CREATE TABLE stock (
    product_id text COLLATE "C" NOT NULL CONSTRAINT stock_product_id_fkey REFERENCES products,
    bucket     smallint NOT NULL CONSTRAINT stock_bucket_check CHECK (bucket BETWEEN 0 AND 15),
    available  bigint   NOT NULL CONSTRAINT stock_available_check CHECK (available >= 0),
    reserved   bigint   NOT NULL DEFAULT 0 CONSTRAINT stock_reserved_check CHECK (reserved >= 0),
    CONSTRAINT stock_pkey PRIMARY KEY (product_id, bucket)
) WITH (fillfactor = 50);

-- What was counted in (positive) or out, append-only. The first stock of a product is one of them.
CREATE TABLE adjustments (
    -- The caller's request id.
    adjustment_id uuid        NOT NULL CONSTRAINT adjustments_pkey PRIMARY KEY,
    product_id    text COLLATE "C" NOT NULL CONSTRAINT adjustments_product_id_fkey REFERENCES products,
    delta         bigint      NOT NULL CONSTRAINT adjustments_delta_check CHECK (delta <> 0),
    reason        text        NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX adjustments_product_idx ON adjustments (product_id);

-- What each order holds or has held. Each version is one record on stock-results. RELEASED without items, and REJECTED
-- without a rejection, are tombstones: what had not happened yet never will.
CREATE TABLE reservations (
    order_id         uuid        NOT NULL CONSTRAINT reservations_pkey PRIMARY KEY,
    version          integer     NOT NULL CONSTRAINT reservations_version_check CHECK (version > 0),
    state            text        NOT NULL CONSTRAINT reservations_state_check
                     CHECK (state IN ('RESERVED', 'REJECTED', 'RELEASED', 'COMMITTED')),
    rejection        text        CONSTRAINT reservations_rejection_check
                     CHECK (rejection IN ('OUT_OF_STOCK', 'NOT_SOLD', 'EXPIRED')),
    -- The first product that was missing.
    rejected_product text,
    -- [{"product_id", "quantity"}], each product once.
    items            jsonb       NOT NULL,
    -- Where in the stock its units are.
    bucket           smallint    NOT NULL CONSTRAINT reservations_bucket_check CHECK (bucket BETWEEN 0 AND 15),
    shipment_id      uuid        CONSTRAINT reservations_shipment_id_key UNIQUE,
    carrier          text,
    ship_time        timestamptz,
    created_at       timestamptz NOT NULL DEFAULT now(),
    updated_at       timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT reservations_shipment_check CHECK (state <> 'COMMITTED' OR shipment_id IS NOT NULL)
) WITH (fillfactor = 70);
