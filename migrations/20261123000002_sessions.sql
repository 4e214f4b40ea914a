-- Who is logged in: rows, since sessions are short-lived, asked for with each request, and secret.

-- What refresh tokens are derived from; made as the claim key was.
INSERT INTO keyring.log_keys
SELECT 'refresh', sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()));

-- A session is of a version of its user, whose status was looked at, and of one of the stream access-<user>,
-- its login. Who ends sessions raises these floors first: a login that was under way begins none below them.
CREATE TABLE session_owners (
    user_id       text COLLATE "C"  PRIMARY KEY,
    user_floor    integer           NOT NULL DEFAULT 0,
    access_floor  integer           NOT NULL DEFAULT 0
) WITH (fillfactor = 70);

CREATE TABLE sessions (
    sid               uuid              PRIMARY KEY,
    user_id           text COLLATE "C",
    user_version      integer,
    access_version    integer,
    service           text,
    created_at        timestamptz       NOT NULL DEFAULT clock_timestamp(),
    expires_at        timestamptz       NOT NULL,
    ended_at          timestamptz,
    -- Of the refresh token that is alive: its number in the session, SHA-256 and end.
    counter           integer           NOT NULL DEFAULT 0,
    token_hash        bytea,
    token_expires_at  timestamptz,
    -- When the last of those before it were used, the newest last.
    used              timestamptz[]     NOT NULL DEFAULT '{}',
    ip_address        text,
    user_agent        text,
    CHECK ((user_id IS NULL) <> (service IS NULL))
) WITH (fillfactor = 80);
-- All sessions of a user end at once.
CREATE INDEX sessions_of_user ON sessions (user_id) WHERE ended_at IS NULL;
-- What is over is cleared away.
CREATE INDEX sessions_expiry ON sessions (expires_at);

-- When logins were tried, of an account and of an address (a hash of it); those that succeeded are taken out
-- again. What a crash of the server empties was to be forgotten within a minute.
CREATE UNLOGGED TABLE login_attempts (
    key    bytea          PRIMARY KEY,
    tries  timestamptz[]  NOT NULL  -- the oldest first
);

-- Takes one of the `most` tries a minute under each of the keys; or none, and says how long to wait. The
-- rows are locked in one order, so that no two wait for each other.
CREATE FUNCTION try_login(keys bytea[], most integer, OUT taken timestamptz, OUT retry_after integer)
LANGUAGE plpgsql AS $$
DECLARE
    minute  CONSTANT interval := '1 minute';
    now     timestamptz;
    full_   timestamptz;
BEGIN
    LOOP
        INSERT INTO login_attempts SELECT k, '{}' FROM unnest(keys) k ORDER BY k ON CONFLICT DO NOTHING;
        PERFORM FROM login_attempts WHERE key = ANY (keys) ORDER BY key FOR UPDATE;
        -- Somebody may have cleared one away in between.
        EXIT WHEN (SELECT count(*) FROM login_attempts WHERE key = ANY (keys)) = cardinality(keys);
    END LOOP;
    now := greatest(clock_timestamp(),
                    (SELECT max(tries[cardinality(tries)]) FROM login_attempts WHERE key = ANY (keys))
                        + interval '1 microsecond');
    SELECT max(recent[cardinality(recent) - most + 1]) INTO full_
    FROM login_attempts,
         LATERAL (SELECT ARRAY(SELECT t FROM unnest(tries) t WHERE t > now - minute ORDER BY t) AS recent) r
    WHERE key = ANY (keys) AND cardinality(recent) >= most;
    IF full_ IS NOT NULL THEN
        retry_after := greatest(1, ceil(extract(epoch FROM full_ + minute - now)));
        RETURN;
    END IF;
    UPDATE login_attempts
    SET tries = ARRAY(SELECT t FROM unnest(tries) t WHERE t > now - minute ORDER BY t) || now
    WHERE key = ANY (keys);
    taken := now;
END $$;

-- Failed logins of users that there are not: noted in the log once a minute and address, with their number.
CREATE TABLE unknown_logins (
    address   text         PRIMARY KEY,
    count     integer      NOT NULL,
    -- Of the last: who it was to be, and what the client calls itself.
    name        text,
    user_agent  text,
    noted_at  timestamptz  NOT NULL DEFAULT '-infinity'
);
