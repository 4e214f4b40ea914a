-- The read models behind /customers and /subscriptions, version 1, all kept by one reader: a customer a row, its
-- subscriptions, its tokens and what moved them. What belongs to a deleted customer goes with it.
-- The log keeps requests unique; an index that did so too could only stop the projection.
CREATE TABLE customers_v1 (
    id              text COLLATE "C"  PRIMARY KEY,
    customer_type   text         NOT NULL,
    name            text         NOT NULL,
    email           text,
    phone           text,
    address         text,
    city            text,
    country         text,
    tax_id          text,
    billing_info    json,        -- as they were written: jsonb turns 1e22 into digits
    payment_method  json,
    preferences     json,
    profile         json,
    status          text         NOT NULL,
    created_at      timestamptz  NOT NULL,
    updated_at      timestamptz  NOT NULL,
    version         integer      NOT NULL
-- Room on each page for the next versions of its rows; vacuumed when there is something to gain, however large.
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05);

CREATE TABLE subscriptions_v1 (
    subscription_id    uuid              PRIMARY KEY,
    customer_id        text COLLATE "C"  NOT NULL,
    plan_id            text              NOT NULL,
    starts_at          timestamptz       NOT NULL,
    ends_at            timestamptz       NOT NULL,
    auto_renew         boolean           NOT NULL,
    tokens_per_period  bigint,
    status             text              NOT NULL,
    -- When something happens to it by itself; NULL once it has ended.
    due_at             timestamptz,
    -- What its next event is understood by: the start of its last period, and of those that have not begun. The
    -- latter to the last digit, since the event that begins one names it so.
    last_start         timestamptz       NOT NULL,
    to_start           json              NOT NULL,
    created_at         timestamptz       NOT NULL,
    updated_at         timestamptz       NOT NULL,
    version            integer           NOT NULL
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05);
CREATE INDEX subscriptions_v1_customer ON subscriptions_v1 (customer_id, subscription_id);
-- Asked twice a second.
CREATE INDEX subscriptions_v1_due ON subscriptions_v1 (due_at, subscription_id) WHERE due_at IS NOT NULL;

CREATE TABLE token_accounts_v1 (
    customer_id  text COLLATE "C"  PRIMARY KEY,
    purchased    bigint       NOT NULL,
    used         bigint       NOT NULL,
    allocated    bigint       NOT NULL,
    updated_at   timestamptz  NOT NULL,
    version      integer      NOT NULL
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05);

-- What moved an account, with what it held after that; kept when its customer is gone.
CREATE TABLE token_entries_v1 (
    customer_id      text COLLATE "C"  NOT NULL,
    version          integer      NOT NULL,
    at               timestamptz  NOT NULL,
    kind             text         NOT NULL,
    amount           bigint       NOT NULL,
    service          text,
    reason           text,
    request_id       text,
    subscription_id  uuid,
    purchased        bigint       NOT NULL,
    used             bigint       NOT NULL,
    allocated        bigint       NOT NULL,
    position         bigint       NOT NULL,
    PRIMARY KEY (customer_id, version)
);
CREATE INDEX token_entries_v1_request ON token_entries_v1 (customer_id, request_id) WHERE request_id IS NOT NULL;
-- For an account as it was at a time.
CREATE INDEX token_entries_v1_at ON token_entries_v1 (customer_id, at, version);
