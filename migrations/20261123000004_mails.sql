-- Mails whose links prove something: rows, since what proves is secret and short-lived.

-- What the links, and the secrets of second factors, are derived from; made as the claim key was.
INSERT INTO keyring.log_keys
SELECT name, sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()))
FROM unnest(ARRAY['mail', 'mfa']) name;

-- A mail for each event that asks for one, written before it is sent.
CREATE TABLE mails (
    event_id      uuid              PRIMARY KEY,
    position      bigint            NOT NULL,
    purpose       text              NOT NULL CHECK (purpose IN ('password_reset', 'email_verification')),
    user_id       text COLLATE "C"  NOT NULL,
    -- What the event calls it.
    request       uuid              NOT NULL,
    -- SHA-256 of what the link holds.
    token_hash    bytea             NOT NULL UNIQUE,
    -- The event's time, from which the link is good for a while.
    requested_at  timestamptz       NOT NULL,
    -- NULL until the mail server has taken or refused it.
    outcome       text              CHECK (outcome IN ('sent', 'refused', 'expired')),
    settled_at    timestamptz,
    -- How often the mail server has put it off, and until when it then waits; what is behind goes on.
    tries         integer           NOT NULL DEFAULT 0,
    next_try      timestamptz
);
-- Looked for every other second.
CREATE INDEX mails_due ON mails (next_try) WHERE outcome IS NULL AND next_try IS NOT NULL;
-- What is over is cleared away.
CREATE INDEX mails_age ON mails (requested_at);
-- Counted each second.
CREATE INDEX mails_refused ON mails (event_id) WHERE outcome = 'refused';

-- Who forgot a password, as it was entered: put down alike whether there is such a user or not, and looked
-- up behind the answer, so that nothing of the answer tells.
CREATE TABLE forgotten_passwords (
    id           uuid         PRIMARY KEY,
    name         text         NOT NULL,
    ip_address   text         NOT NULL,
    user_agent   text,
    -- Of the request, for the event.
    metadata     text         NOT NULL,
    asked_at     timestamptz  NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX forgotten_passwords_age ON forgotten_passwords (asked_at);
