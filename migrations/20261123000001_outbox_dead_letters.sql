-- Messages that Kafka refused for good, and those of the same key behind them. Each is made again from its event.

CREATE TABLE outbox_dead_letters (
    id          bigint       GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    topic       text         NOT NULL,
    key         text         NOT NULL,
    position    bigint       NOT NULL,
    message_id  text         NOT NULL,  -- its ce_id
    type        text         NOT NULL,
    reason      text,                   -- what Kafka said; none where it was not asked: one before it is refused
    attempts    integer      NOT NULL DEFAULT 0,
    parked_at   timestamptz  NOT NULL DEFAULT now(),
    retry_at    timestamptz,            -- an operator asked for another try
    UNIQUE (topic, message_id)
);
-- In the order in which they are sent.
CREATE INDEX outbox_dead_letters_key ON outbox_dead_letters (topic, key, id);
-- The leader asks for these each second.
CREATE INDEX outbox_dead_letters_asked ON outbox_dead_letters (topic, key) WHERE retry_at IS NOT NULL;

-- One row: a leader that was replaced writes no letters, and strikes none off.
CREATE TABLE outbox_epoch (
    epoch     bigint   NOT NULL DEFAULT 0,
    only_row  boolean  PRIMARY KEY DEFAULT true CHECK (only_row)
);
INSERT INTO outbox_epoch DEFAULT VALUES;
