-- What those who follow the log agree on, and how far what they write to elsewhere has come.

-- Which session leads each reader, and when it last showed that it lives.
CREATE TABLE leaders (
    reader  text         PRIMARY KEY,
    pid     integer      NOT NULL,
    beat    timestamptz  NOT NULL
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

-- A copy of each sink's own checkpoint: a sink that lost its own is told apart from a new one.
CREATE TABLE sink_progress (
    sink        text         PRIMARY KEY,
    log_id      uuid         NOT NULL,
    generation  integer      NOT NULL,
    position    bigint       NOT NULL,
    event_id    uuid,
    updated_at  timestamptz  NOT NULL DEFAULT now()
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

-- From these positions on, ids in a Redis stream begin with at least so many milliseconds: others
-- had written a later id when ours came.
CREATE TABLE stream_floors (
    stream    text         NOT NULL,
    position  bigint       NOT NULL,
    ms        bigint       NOT NULL,
    made_at   timestamptz  NOT NULL DEFAULT now(),
    PRIMARY KEY (stream, position)
);

-- The topics this log knows, and how far each partition had been filled when we last looked: a
-- topic that ends before that was deleted and made again.
CREATE TABLE topics (
    name        text         PRIMARY KEY,
    cluster_id  text         NOT NULL,
    ends        bigint[]     NOT NULL,  -- a partition each: the offset behind our last message
    known_at    timestamptz  NOT NULL DEFAULT now()
);
