-- One payment for each order. A row in PENDING or REFUNDING is an intent: the dispatcher owes the provider a call.
CREATE TABLE payments (
    payment_id         uuid        NOT NULL CONSTRAINT payments_pkey PRIMARY KEY,
    order_id           uuid        NOT NULL CONSTRAINT payments_order_id_key UNIQUE,
    customer_id        text        NOT NULL,
    -- XXX (ISO 4217: no currency) where a refund came before any request.
    currency           text        NOT NULL CONSTRAINT payments_currency_check CHECK (currency ~ '^[A-Z]{3}$'),
    amount_minor       bigint      NOT NULL CONSTRAINT payments_amount_check CHECK (amount_minor >= 0),
    payment_token      text,
    status             text        NOT NULL CONSTRAINT payments_status_check
                       CHECK (status IN ('PENDING', 'SUCCEEDED', 'FAILED', 'REFUNDING', 'REFUNDED')),
    failure            text        CONSTRAINT payments_failure_check
                       CHECK (failure IN ('DECLINED', 'INSUFFICIENT_FUNDS', 'EXPIRED')),
    version            integer     NOT NULL CONSTRAINT payments_version_check CHECK (version > 0),
    attempts           integer     NOT NULL DEFAULT 0,
    provider_reference text,
    refund_requested   boolean     NOT NULL DEFAULT false,
    refunded_minor     bigint      NOT NULL DEFAULT 0 CONSTRAINT payments_refunded_check
                       CHECK (refunded_minor BETWEEN 0 AND amount_minor),
    not_after          timestamptz,
    next_attempt_at    timestamptz NOT NULL DEFAULT now(),
    claimed_until      timestamptz,
    -- W3C trace context of the request, so that the call to the provider belongs to its trace.
    traceparent        text,
    tracestate         text,
    created_at         timestamptz NOT NULL DEFAULT now(),
    updated_at         timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT payments_token_cleared_check CHECK (status = 'PENDING' OR payment_token IS NULL)
);

-- What the dispatcher looks for; decided payments are not in it.
CREATE INDEX payments_due_idx ON payments (next_attempt_at) WHERE status IN ('PENDING', 'REFUNDING');

-- The double-entry ledger, append-only. The postings of one entry sum to 0.
CREATE TABLE ledger_postings (
    posting_id bigint      GENERATED ALWAYS AS IDENTITY CONSTRAINT ledger_postings_pkey PRIMARY KEY,
    entry_id   uuid        NOT NULL,
    payment_id uuid        NOT NULL CONSTRAINT ledger_postings_payment_id_fkey REFERENCES payments,
    kind       text        NOT NULL CONSTRAINT ledger_postings_kind_check CHECK (kind IN ('CHARGE', 'REFUND')),
    account    text        NOT NULL CONSTRAINT ledger_postings_account_check
               CHECK (account IN ('PROVIDER_CLEARING', 'CUSTOMER_SALES')),
    currency   text        NOT NULL,
    minor      bigint      NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    -- The last guard against booking one charge or refund twice.
    CONSTRAINT ledger_postings_once_key UNIQUE (payment_id, kind, account)
);
