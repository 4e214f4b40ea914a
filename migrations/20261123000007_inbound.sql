-- What other services say: how far each partition is judged, what could not be carried out, what is to be answered.

-- Whose bodies are kept here is nobody's business who reads the tables; made as the claim key was.
INSERT INTO keyring.log_keys
VALUES ('letter', sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())));

-- A row for each partition of each topic that was ever read: of a topic that was deleted and made again another one.
CREATE TABLE inbox (
    source       uuid         PRIMARY KEY,  -- a hash of the four that follow
    cluster_id   text         NOT NULL,
    topic_id     text         NOT NULL,     -- Kafka's, which a topic of the same name does not get again
    topic        text         NOT NULL,
    partition    integer      NOT NULL,
    next_offset  bigint       NOT NULL,     -- every message before it has its outcome
    attempt      uuid         NOT NULL,     -- of the append that came last: sent again, it is known by it
    updated_at   timestamptz  NOT NULL DEFAULT now()
) WITH (fillfactor = 50);
CREATE INDEX inbox_topic ON inbox (cluster_id, topic);

-- Topics that were made, or found, once: one that is gone is not made again behind anybody's back.
CREATE TABLE inbound_topics (
    cluster_id  text  NOT NULL,
    name        text  NOT NULL,
    PRIMARY KEY (cluster_id, name)
);

-- Messages that could not be carried out.
CREATE TABLE inbound_dead_letters (
    id          bigint       GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    source      uuid         NOT NULL,
    topic       text         NOT NULL,
    partition   integer      NOT NULL,
    "offset"    bigint       NOT NULL,
    key         uuid,                       -- a hash of the message's key: those of one key keep their order
    code        text         NOT NULL,
    detail      text         NOT NULL,
    body        bytea        NOT NULL,      -- the message, encrypted; empty once it is settled and relayed
    attempts    integer      NOT NULL DEFAULT 1,
    failed_at   timestamptz  NOT NULL DEFAULT clock_timestamp(),
    relayed_at  timestamptz,                -- when it was on its topic of dead letters
    send_after  timestamptz  NOT NULL DEFAULT clock_timestamp(),  -- until then somebody is at it, or it has to wait
    state       text         NOT NULL DEFAULT 'waiting'
                CHECK (state IN ('waiting', 'applied', 'skipped', 'discarded')),
    settled_at  timestamptz,
    attempt     uuid,                       -- of the append that settled it
    UNIQUE (source, "offset")
);
-- In the order in which they are tried again.
CREATE INDEX inbound_dead_letters_waiting ON inbound_dead_letters (topic, partition, id) WHERE state = 'waiting';
-- Looked for all the time.
CREATE INDEX inbound_dead_letters_unrelayed ON inbound_dead_letters (id) WHERE relayed_at IS NULL;

-- What is to be answered to commands that were judged; gone once it is sent.
CREATE TABLE inbound_answers (
    id          bigint       GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    source      uuid         NOT NULL,
    "offset"    bigint       NOT NULL,
    topic       text         NOT NULL,
    send_after  timestamptz  NOT NULL DEFAULT clock_timestamp(),
    body        bytea        NOT NULL       -- the answer, encrypted
);

-- What a poll brought of one partition, in one commit: the commands' events, all or none, as `append_batch` judges
-- them; how far the partition is judged with it; its dead letters and answers. i_expected is how far it was judged
-- before: if that is not so, somebody else has it now, and nothing is stored. With i_letter it is not a partition
-- but a dead letter that is judged again; it must wait still.
--
-- i_attempt tells this append from all others: one that is sent again finds out that it was stored.
CREATE FUNCTION append_delivery(
    i_source uuid, i_expected bigint, i_next bigint, i_attempt uuid, i_letter bigint, i_state text,
    d_offset bigint[], d_key uuid[], d_code text[], d_detail text[], d_body bytea[],
    a_offset bigint[], a_topic text[], a_body bytea[],
    c_stream text[], c_base integer[], c_expected integer[], c_known boolean[], c_version integer[],
    c_first_event uuid[],
    c_key uuid[], c_request uuid[], c_keep_key boolean[], c_group integer[],
    t_command integer[], t_claim uuid[],
    r_claim uuid[], r_command integer[],
    e_command integer[], e_version integer[], e_id uuid[], e_type text[],
    e_schema_version smallint[], e_subject text[], e_enc smallint[], e_data bytea[], e_meta bytea[],
    OUT outcome smallint, OUT next_offset bigint,
    OUT head bigint, OUT head_event uuid, OUT at timestamptz,
    OUT l_command integer[], OUT l_verdict smallint[], OUT l_stream text[], OUT l_version integer[],
    OUT l_position bigint[], OUT l_recorded_at timestamptz[]
)
LANGUAGE plpgsql
-- As for `append_batch`: an index probe each, whatever the tables held when the plans were made.
SET enable_seqscan = off
SET enable_bitmapscan = off
SET plan_cache_mode = force_generic_plan
SET jit = off
AS $$
#variable_conflict use_column
DECLARE
    stored         CONSTANT smallint := 1;
    stored_before  CONSTANT smallint := 2;  -- by this very attempt
    moved          CONSTANT smallint := 3;  -- somebody else has it
    refused        CONSTANT smallint := 4;  -- as the verdicts say
    done_by        uuid;
    topic          text;
    partition      integer;
    state          text;
BEGIN
    -- First of all: whatever is read after this line is committed and stays as it is until we commit.
    PERFORM pg_advisory_xact_lock(7020658226180341);

    IF i_letter IS NULL THEN
        SELECT i.next_offset, i.attempt, i.topic, i.partition INTO next_offset, done_by, topic, partition
        FROM inbox i WHERE i.source = i_source;
    ELSE
        -- Nobody gives it up meanwhile.
        SELECT d.state, d.attempt INTO state, done_by FROM inbound_dead_letters d WHERE d.id = i_letter FOR UPDATE;
    END IF;
    IF done_by = i_attempt THEN
        outcome := stored_before;
        RETURN;
    END IF;
    IF i_letter IS NULL AND next_offset IS DISTINCT FROM i_expected
       OR i_letter IS NOT NULL AND state IS DISTINCT FROM 'waiting' THEN
        outcome := moved;
        RETURN;
    END IF;

    SELECT b.head, b.head_event, b.at, b.l_command, b.l_verdict, b.l_stream, b.l_version, b.l_position, b.l_recorded_at
    INTO head, head_event, at, l_command, l_verdict, l_stream, l_version, l_position, l_recorded_at
    FROM append_batch(NULL, NULL, NULL, NULL, c_stream, c_base, c_expected, c_known, c_version, c_first_event,
                      c_key, c_request, c_keep_key, c_group, t_command, t_claim, r_claim, r_command,
                      e_command, e_version, e_id, e_type, e_schema_version, e_subject, e_enc, e_data, e_meta) b;
    IF l_command IS NOT NULL THEN
        outcome := refused;
        RETURN;
    END IF;

    IF i_letter IS NOT NULL THEN
        UPDATE inbound_dead_letters d
        SET state = i_state, settled_at = clock_timestamp(), attempt = i_attempt,
            body = CASE WHEN relayed_at IS NULL THEN body ELSE '' END
        WHERE d.id = i_letter;
    ELSE
        UPDATE inbox i SET next_offset = i_next, attempt = i_attempt, updated_at = clock_timestamp()
        WHERE i.source = i_source;
    END IF;
    IF cardinality(d_offset) > 0 THEN
        INSERT INTO inbound_dead_letters (source, topic, partition, "offset", key, code, detail, body)
        SELECT i_source, topic, partition, d.*
        FROM unnest(d_offset, d_key, d_code, d_detail, d_body) d;
    END IF;
    IF cardinality(a_offset) > 0 THEN
        INSERT INTO inbound_answers (source, "offset", topic, body)
        SELECT i_source, a.* FROM unnest(a_offset, a_topic, a_body) a;
    END IF;
    outcome := stored;
    next_offset := i_next;
END $$;
