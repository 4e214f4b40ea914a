-- The log: everything else in this database can be rebuilt from what these tables hold.

-- One row: which log this is. A restored copy that goes its own way gets the next generation.
CREATE TABLE log (
    log_id      uuid     NOT NULL DEFAULT gen_random_uuid(),
    generation  integer  NOT NULL DEFAULT 1,
    only_row    boolean  PRIMARY KEY DEFAULT true CHECK (only_row)
);
INSERT INTO log DEFAULT VALUES;

-- Keys are random, made once per log, and kept apart from what they protect.
CREATE SCHEMA keyring;
CREATE TABLE keyring.log_keys (
    name  text   PRIMARY KEY,
    key   bytea  NOT NULL CHECK (octet_length(key) = 32)
);
-- Two random UUIDs carry 244 bits of the server's strong random source.
INSERT INTO keyring.log_keys
SELECT 'claim', sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()));

-- Fixed-width columns first: a row then has no padding.
CREATE TABLE events (
    position        bigint       PRIMARY KEY,
    recorded_at     timestamptz  NOT NULL,
    event_id        uuid         NOT NULL,
    version         integer      NOT NULL,
    schema_version  smallint     NOT NULL,
    enc             smallint     NOT NULL,  -- 0: data is compact JSON
    stream          text COLLATE "C" NOT NULL,
    type            text COLLATE "C" NOT NULL,
    subject         text,                   -- whose personal data this is, once it is encrypted
    data            bytea        NOT NULL,
    meta            bytea        NOT NULL,
    CONSTRAINT events_stream_version UNIQUE (stream, version)
);
-- Compressing small payloads costs more CPU under the append lock than it saves.
ALTER TABLE events ALTER COLUMN data SET STORAGE EXTERNAL, ALTER COLUMN meta SET STORAGE EXTERNAL;

-- For people with psql; no program reads it.
CREATE VIEW events_readable AS
SELECT position, recorded_at, stream, version, type, event_id,
       CASE enc WHEN 0 THEN convert_from(data, 'UTF8')::jsonb END AS data,
       convert_from(meta, 'UTF8')::jsonb AS meta
FROM events;

-- A value that one stream holds: 128 bits of an HMAC under the claim key, so that
-- the index of an erased person's values tells nothing.
CREATE TABLE claims (
    claim   uuid              PRIMARY KEY,
    stream  text COLLATE "C"  NOT NULL
);

-- What an Idempotency-Key was answered with: the stream at that version, made again from the log.
CREATE TABLE idempotency (
    day      date              NOT NULL,
    key      uuid              NOT NULL,
    request  uuid              NOT NULL,
    stream   text COLLATE "C"  NOT NULL,
    version  integer           NOT NULL,
    PRIMARY KEY (key, day)
) PARTITION BY RANGE (day);

-- Makes the partitions of today and the week ahead, drops those no repeat can ask for:
-- a key counts for 24 hours, so today and yesterday are kept. Today is what the log says it is,
-- which a clock that was set back does not change.
-- As the schema's owner, whoever asks: a service that may only write makes no tables.
CREATE FUNCTION idempotency_rotate() RETURNS void LANGUAGE plpgsql
SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    today  date := (greatest(clock_timestamp(), (SELECT recorded_at FROM events ORDER BY position DESC LIMIT 1))
                    AT TIME ZONE 'UTC')::date;
    day    date;
    old    regclass;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('annuaire.idempotency_rotate', 0));
    FOR offset_days IN 0..7 LOOP
        day := today + offset_days;
        IF to_regclass('idempotency_' || to_char(day, 'YYYYMMDD')) IS NULL THEN
            EXECUTE format('CREATE TABLE %I PARTITION OF idempotency FOR VALUES FROM (%L) TO (%L)',
                           'idempotency_' || to_char(day, 'YYYYMMDD'), day, day + 1);
        END IF;
    END LOOP;
    FOR old IN
        SELECT inhrelid::regclass FROM pg_inherits
        WHERE inhparent = 'idempotency'::regclass
          AND right(inhrelid::regclass::text, 8) < to_char(today - 1, 'YYYYMMDD')
    LOOP
        EXECUTE format('DROP TABLE %s', old);
    END LOOP;
END $$;
SELECT idempotency_rotate();

-- How far each reader of the log has come; `epoch` fences a leader that was replaced.
CREATE TABLE checkpoints (
    reader      text         PRIMARY KEY,
    log_id      uuid         NOT NULL,
    generation  integer      NOT NULL,
    position    bigint       NOT NULL DEFAULT 0,
    event_id    uuid,                        -- of the event at that position; NULL at 0
    epoch       bigint       NOT NULL DEFAULT 0,
    updated_at  timestamptz  NOT NULL DEFAULT now(),
    CHECK ((position = 0) = (event_id IS NULL))
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
