-- Commands on several streams that are carried out together or not at all: `append_batch` with one more
-- argument, c_group. The function of 26 arguments stays as it is for processes of the release before, which
-- call it while they are replaced one by one; a migration of the release after this one may drop it.
--
-- The one way into the log: a batch of commands, decided elsewhere, judged and stored in one commit.
--
-- Arrays beginning with c_ have one element a command, t_ one a claim to take, r_ one a claim to
-- release, e_ one an event; *_command is the 1-based index of the command it belongs to. Events come
-- in the order of their commands. Commands on one stream form a lane: all name the version the lane
-- began with (c_base) and each the version it was decided on (c_expected). The caller sees to it
-- that no two commands of a batch touch the same claim or the same key. Elements are taken by their
-- number: PL/pgSQL keeps its arrays taken apart, and so many of them are slow to unnest side by side.
--
-- Commands that are carried out together or not at all are a group: each names the 1-based index of the first of
-- them in c_group, which is NULL for a command on its own, and NULL as a whole for a batch without a group. They
-- stand next to each other. The caller sees to it that before a command of a group there are in its lane only
-- others of the same group: so a group fails by itself only, and takes with it what comes behind it in its lanes.
--
-- Looking things up costs more than storing them. So the caller says up to where it knows the log (the
-- event seen_event at position seen, and the first and the last event of another batch of its own that
-- may stand behind it) and which versions are right as of there (c_known): of these only those are out
-- of date whose streams others have written to since, and it is told all that they have written.
--
-- Answers the head before the batch, the event there, and the batch's time; whether all is known that
-- was written since `seen`, and if somebody else wrote, what (o_); and the commands that were not carried
-- out (l_). The others took the positions head+1, head+2 … in order.
CREATE FUNCTION append_batch(
    seen bigint, seen_event uuid, own_first uuid, own_last uuid,
    c_stream text[], c_base integer[], c_expected integer[], c_known boolean[], c_version integer[],
    c_first_event uuid[],
    c_key uuid[], c_request uuid[], c_keep_key boolean[], c_group integer[],
    t_command integer[], t_claim uuid[],
    r_claim uuid[], r_command integer[],
    e_command integer[], e_version integer[], e_id uuid[], e_type text[],
    e_schema_version smallint[], e_subject text[], e_enc smallint[], e_data bytea[], e_meta bytea[],
    OUT head bigint, OUT head_event uuid, OUT at timestamptz, OUT followed boolean,
    OUT l_command integer[], OUT l_verdict smallint[], OUT l_stream text[], OUT l_version integer[],
    OUT l_position bigint[], OUT l_recorded_at timestamptz[],
    OUT o_position bigint[], OUT o_recorded_at timestamptz[], OUT o_event_id uuid[], OUT o_version integer[],
    OUT o_schema_version smallint[], OUT o_enc smallint[], OUT o_stream text[], OUT o_type text[],
    OUT o_data bytea[], OUT o_meta bytea[]
)
LANGUAGE plpgsql
-- Every plan below is an index probe per element, whatever the tables held when it was made: a plan
-- cached on empty tables must not scan them when they are full.
SET enable_seqscan = off
SET enable_bitmapscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET plan_cache_mode = force_generic_plan
SET jit = off
SET max_parallel_workers_per_gather = 0
AS $$
#variable_conflict use_column
DECLARE
    -- The verdicts, as event-store's `Verdict` reads them.
    done_before  CONSTANT smallint := 1;  -- our own first try had committed
    repeated     CONSTANT smallint := 2;  -- the key is known, with the same request
    key_reused   CONSTANT smallint := 3;  -- the key is known, with another request
    stale        CONSTANT smallint := 4;  -- the stream is not at the version decided on
    claim_taken  CONSTANT smallint := 5;  -- `version` then is the index of the claim in the batch
    in_company   CONSTANT smallint := 6;  -- not for its own sake, but for that of another of its group
    -- Of how many events, and of how many bytes, the caller is told. Telling costs about as much as looking up
    -- as many versions. And an answer that the caller does not take must find room on its way: until it is
    -- sent there is no commit, and the lock is held.
    telling      CONSTANT bigint := 16 + 4 * cardinality(c_stream);
    telling_size CONSTANT bigint := 65536;
    before       xid;  -- who wrote the event that was seen
    own          xid;  -- and who the caller's other batch
    today        date;
    failed       integer[];
    alone        integer[];  -- those of them that failed for their own sake
    -- The same, by the number of a command: a group may have ten thousand, all of which fail with one.
    has_failed   boolean[];
    is_guilty    boolean[];
    one          integer;
    won          boolean[];  -- NULL: all of them
    intact       boolean[];  -- whether all before it in its lane won
BEGIN
    -- First of all: whatever is read after this line is committed and stays as it is until we commit.
    PERFORM pg_advisory_xact_lock(7020658226180341);

    SELECT e.position, e.event_id, e.recorded_at INTO head, head_event, at
    FROM events e ORDER BY e.position DESC LIMIT 1;
    head := coalesce(head, 0);
    at := greatest(clock_timestamp(), at);

    followed := coalesce(head = seen AND head_event = seen_event, false);
    IF head > seen THEN
        SELECT e.event_id = seen_event, e.xmin INTO followed, before FROM events e WHERE e.position = seen;
        followed := coalesce(followed, false);
    END IF;
    IF followed AND head > seen THEN
        -- What one transaction has stored stands in one piece. A batch that was sent twice may have been
        -- stored in two, with others' events between them. (A copied log is all of one transaction.)
        own := (SELECT e.xmin FROM events e
                WHERE e.position = seen + 1 AND e.event_id = own_first AND e.xmin <> before);
        IF (head_event = own_last AND own = (SELECT e.xmin FROM events e WHERE e.position = head)) IS NOT TRUE THEN
            followed := head <= seen + telling
                AND (SELECT sum(octet_length(e.data) + octet_length(e.meta)) FROM events e
                     WHERE e.position > seen AND e.position <= head) <= telling_size;
            IF followed AND own IS NULL AND own_first IS NOT NULL THEN
                own := (SELECT e.xmin FROM events e
                        WHERE e.position > seen AND e.position <= head
                          AND e.event_id = own_first AND e.xmin <> before);
            END IF;
            IF followed THEN
                SELECT array_agg(e.position), array_agg(e.recorded_at), array_agg(e.event_id),
                       array_agg(e.version), array_agg(e.schema_version), array_agg(e.enc),
                       array_agg(e.stream), array_agg(e.type), array_agg(e.data), array_agg(e.meta)
                INTO o_position, o_recorded_at, o_event_id, o_version, o_schema_version, o_enc,
                     o_stream, o_type, o_data, o_meta
                FROM (SELECT * FROM events e
                      WHERE e.position > seen AND e.position <= head AND (own IS NULL OR e.xmin <> own)
                      ORDER BY e.position) e;
            END IF;
        END IF;
    END IF;
    IF NOT followed OR o_stream IS NOT NULL OR false = ANY (c_known) THEN
        failed := ARRAY(
            SELECT c.ord
            FROM generate_series(1, cardinality(c_stream)) AS c (ord)
            WHERE CASE
                WHEN followed AND c_known[c.ord] THEN c_stream[c.ord] IN (SELECT unnest(o_stream))
                ELSE c_base[c.ord] <> coalesce((SELECT e.version FROM events e
                                                WHERE e.stream = c_stream[c.ord] AND e.version >= c_base[c.ord]
                                                ORDER BY e.version DESC LIMIT 1), 0)
            END);
    END IF;
    IF cardinality(t_command) > 0 THEN
        failed := failed || ARRAY(
            SELECT t.command FROM unnest(t_command, t_claim) AS t (command, claim)
            WHERE (SELECT true FROM claims k WHERE k.claim = t.claim LIMIT 1));
    END IF;
    IF cardinality(array_remove(c_key, NULL)) > 0 THEN
        today := (at AT TIME ZONE 'UTC')::date;
        failed := failed || ARRAY(
            SELECT c.ord FROM unnest(c_key) WITH ORDINALITY AS c (key, ord)
            WHERE c.key IS NOT NULL
              AND (SELECT true FROM idempotency i
                   WHERE i.key = c.key AND i.day BETWEEN today - 1 AND today LIMIT 1));
    END IF;

    IF cardinality(failed) > 0 THEN
        alone := failed;
        IF c_group IS NOT NULL THEN
            failed := failed || ARRAY(
                SELECT c.ord FROM unnest(c_group) WITH ORDINALITY AS c (first, ord)
                WHERE c.first IN (SELECT c_group[f] FROM unnest(alone) f));
        END IF;
        has_failed := array_fill(false, ARRAY[cardinality(c_stream)]);
        is_guilty := has_failed;
        FOREACH one IN ARRAY failed LOOP
            has_failed[one] := true;
        END LOOP;
        FOREACH one IN ARRAY alone LOOP
            is_guilty[one] := true;
        END LOOP;
        -- Who was decided on the state that a failed one would have left has failed as well.
        SELECT array_agg(l.ok ORDER BY l.ord), array_agg(coalesce(l.ok_before, true) ORDER BY l.ord)
        INTO won, intact
        FROM (
            SELECT c.ord,
                   bool_and(NOT has_failed[c.ord]) OVER lane AS ok,
                   bool_and(NOT has_failed[c.ord]) OVER (lane ROWS BETWEEN UNBOUNDED PRECEDING
                                                              AND 1 PRECEDING) AS ok_before
            FROM unnest(c_stream) WITH ORDINALITY AS c (stream, ord)
            WINDOW lane AS (PARTITION BY c.stream ORDER BY c.ord)
        ) l;
        SELECT array_agg(l.ord), array_agg(l.verdict), array_agg(l.stream),
               array_agg(l.version), array_agg(l.position), array_agg(l.recorded_at)
        INTO l_command, l_verdict, l_stream, l_version, l_position, l_recorded_at
        FROM (
            SELECT c.ord::integer AS ord, v.*
            FROM unnest(c_stream, c_base, c_expected, c_first_event, c_key, c_request)
                 WITH ORDINALITY AS c (stream, base, expected, first_event, key, request, ord)
            CROSS JOIN LATERAL (
                (SELECT done_before AS verdict, e.stream, e.version, e.position, e.recorded_at
                 FROM events e
                 WHERE e.stream = c.stream AND e.version = c.expected + 1 AND e.event_id = c.first_event)
                UNION ALL
                (SELECT CASE WHEN i.request = c.request THEN repeated ELSE key_reused END,
                        i.stream, i.version, 0, at
                 FROM idempotency i
                 WHERE i.key = c.key AND i.day BETWEEN today - 1 AND today)
                UNION ALL
                -- Only on a confirmed state is a taken claim an answer; else decide again first. In a group that
                -- has failed, the state is that which those before it would have left that are not to blame.
                (SELECT claim_taken, c.stream, t.ord::integer, 0, at
                 FROM unnest(t_command, t_claim) WITH ORDINALITY AS t (command, claim, ord)
                 WHERE t.command = c.ord
                   AND (intact[c.ord] OR c_group[c.ord] IS NOT NULL AND NOT EXISTS (
                            SELECT FROM unnest(alone) f WHERE f < c.ord AND c_stream[f] = c.stream))
                   AND c.base = coalesce((SELECT e.version FROM events e WHERE e.stream = c.stream
                                          ORDER BY e.version DESC LIMIT 1), 0)
                   AND (SELECT true FROM claims k WHERE k.claim = t.claim LIMIT 1))
                UNION ALL
                (SELECT CASE WHEN c_group[c.ord] IS NOT NULL AND NOT is_guilty[c.ord] THEN in_company ELSE stale END,
                        c.stream, 0, 0, at)
                LIMIT 1
            ) v
            WHERE NOT won[c.ord]
            ORDER BY c.ord
        ) l;
    END IF;

    IF won IS NULL THEN
        INSERT INTO events
        SELECT head + n, at, e_id[n], e_version[n], e_schema_version[n], e_enc[n],
               c_stream[e_command[n]], e_type[n], e_subject[n], e_data[n], e_meta[n]
        FROM generate_series(1, cardinality(e_id)) n;
    ELSE
        INSERT INTO events
        SELECT head + row_number() OVER (ORDER BY n), at, e_id[n], e_version[n], e_schema_version[n], e_enc[n],
               c_stream[e_command[n]], e_type[n], e_subject[n], e_data[n], e_meta[n]
        FROM generate_series(1, cardinality(e_id)) n
        WHERE won[e_command[n]];
    END IF;

    IF cardinality(r_claim) > 0 THEN
        DELETE FROM claims k USING unnest(r_claim, r_command) AS r (claim, command)
        WHERE k.claim = r.claim AND k.stream = c_stream[r.command] AND (won IS NULL OR won[r.command]);
    END IF;
    IF cardinality(t_command) > 0 THEN
        INSERT INTO claims
        SELECT t.claim, c_stream[t.command]
        FROM unnest(t_command, t_claim) AS t (command, claim)
        WHERE won IS NULL OR won[t.command];
    END IF;
    IF today IS NOT NULL THEN
        INSERT INTO idempotency
        SELECT today, c.key, c.request, c.stream, c.version
        FROM unnest(c_key, c_request, c_stream, c_version, c_keep_key)
             WITH ORDINALITY AS c (key, request, stream, version, keep, ord)
        WHERE c.key IS NOT NULL AND c.keep AND (won IS NULL OR won[c.ord]);
    END IF;
END $$;
