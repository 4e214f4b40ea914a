-- Lists are searched for a part of a name, in any case and with or without accents; without an index of trigrams that
-- reads every row. Each index is of an expression over the columns that are searched, so that a change of others
-- stays out of it.
DO $$
DECLARE
    accents  text;
    trigrams text;
BEGIN
    BEGIN
        CREATE EXTENSION IF NOT EXISTS unaccent;
        CREATE EXTENSION IF NOT EXISTS pg_trgm;
    EXCEPTION WHEN insufficient_privilege OR feature_not_supported OR undefined_file THEN
        RAISE EXCEPTION '%; once, as a superuser in the database "%", run: '
            'CREATE EXTENSION IF NOT EXISTS unaccent; CREATE EXTENSION IF NOT EXISTS pg_trgm; '
            '(or GRANT CREATE ON DATABASE to "%"; some systems have both in a package postgresql-contrib)',
            SQLERRM, current_database(), current_user USING ERRCODE = SQLSTATE;
    END;
    -- Whoever made them before may have chosen another schema.
    SELECT extnamespace::regnamespace INTO STRICT accents FROM pg_extension WHERE extname = 'unaccent';
    SELECT extnamespace::regnamespace INTO STRICT trigrams FROM pg_extension WHERE extname = 'pg_trgm';

    -- What is there of these words, without case and accents. `unaccent` is not immutable for it looks its dictionary
    -- up, and `array_to_string` for what it can be given; this names a dictionary, and is given text. What a body of
    -- this form names is bound when it is made, whatever a search_path is later. Dear, so that the planner rather
    -- reads an index than computes it for many rows.
    EXECUTE format($sql$
        CREATE FUNCTION search_text(VARIADIC words text[]) RETURNS text
        LANGUAGE sql IMMUTABLE PARALLEL SAFE COST 1000
        RETURN lower(%1$s.unaccent('%1$s.unaccent'::regdictionary, array_to_string(words, ' ')) COLLATE "default")
        $sql$, accents);

    EXECUTE format('CREATE INDEX users_v1_search ON users_v1 '
        'USING gin (search_text(prenom, nom, prenom, matricule, email, username) %s.gin_trgm_ops)', trigrams);
    EXECUTE format('CREATE INDEX customers_v1_search ON customers_v1 '
        'USING gin (search_text(name, email, phone, city, tax_id) %s.gin_trgm_ops)', trigrams);
END $$;

-- A pattern of LIKE for what holds this text. Escaped last, for some characters are a % or _ without their accents.
CREATE FUNCTION search_pattern(looked_for text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT
RETURN '%' || replace(replace(replace(search_text(looked_for), '\', '\\'), '%', '\%'), '_', '\_') || '%';

-- How many trigrams there are is known before the next autovacuum.
ANALYZE users_v1, customers_v1;
