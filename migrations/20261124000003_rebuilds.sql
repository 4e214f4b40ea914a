-- Read models that are made again beside the live ones: their tables, under the names they will have, and how far
-- they have come. Queries that name no schema mean these where they are looked for first.
CREATE SCHEMA rebuild;
CREATE TABLE rebuild.checkpoints (LIKE checkpoints INCLUDING ALL);

-- What a rebuild has replaced, until the next one: to go back to.
CREATE SCHEMA previous;
CREATE TABLE previous.checkpoints (LIKE checkpoints INCLUDING ALL);

-- Where each rebuild that has begun is.
CREATE TABLE rebuilds (
    reader      text         PRIMARY KEY,
    log_id      uuid         NOT NULL,
    generation  integer      NOT NULL,
    -- Whether the rows are made anew, or those that were replaced are brought back.
    kind        text         NOT NULL CHECK (kind IN ('rebuild', 'rollback')),
    -- The version of the program that began: another one may make other rows.
    program     text         NOT NULL,
    -- Who begins or goes on raises it, and shuts out who did before.
    epoch       bigint       NOT NULL,
    phase       text         NOT NULL CHECK (phase IN ('filling', 'indexing', 'catching up')),
    -- What is filled in is as of this position …
    upto        bigint       NOT NULL,
    -- … and of the streams with smaller ids than this; NULL before the first.
    reached     text COLLATE "C",
    started_at  timestamptz  NOT NULL DEFAULT now(),
    updated_at  timestamptz  NOT NULL DEFAULT now()
);
