-- What keeps a read model from going on, what operators decided about it, and whether it was found complete: here, so
-- that every process and command sees it.

-- Where a read model has stopped, and why; gone when it has gone on. Without an event: not because of one.
CREATE TABLE projection_stops (
    reader    text         PRIMARY KEY,
    position  bigint       NOT NULL,
    event_id  uuid,
    stream    text,
    type      text,
    code      text         NOT NULL,
    error     text         NOT NULL,
    since     timestamptz  NOT NULL DEFAULT now()
);

-- Events that a read model passes by, for an operator has said so. Kept for ever: it is made again without them, too.
CREATE TABLE projection_skips (
    reader    text         NOT NULL,
    position  bigint       NOT NULL,
    event_id  uuid         NOT NULL,  -- a log that was restored may have another event there
    stream    text         NOT NULL,
    type      text         NOT NULL,
    code      text         NOT NULL,
    error     text         NOT NULL,
    reason    text         NOT NULL,
    who       text         NOT NULL,  -- the operator's account on the machine
    at        timestamptz  NOT NULL DEFAULT now(),
    PRIMARY KEY (reader, position, event_id)
);

-- Read models that an operator has told to pause.
CREATE TABLE projection_pauses (
    reader  text         PRIMARY KEY,
    reason  text         NOT NULL,
    who     text         NOT NULL,
    since   timestamptz  NOT NULL DEFAULT now()
);

-- What the last comparison of a read model's versions with those of the log has found.
CREATE TABLE projection_checks (
    reader      text         PRIMARY KEY,
    position    bigint       NOT NULL,  -- as of which
    streams     bigint       NOT NULL,  -- that were looked at
    incomplete  bigint       NOT NULL,  -- of these, that differ
    examples    text[]       NOT NULL,  -- some of them
    checked_at  timestamptz  NOT NULL DEFAULT now()
);
