-- The read model behind GET /:id, /all and /batch, version 1: a user a row, deleted ones are gone.
-- The log keeps matricules unique; an index that did so too could only stop the projection.
CREATE TABLE users_v1 (
    id                text COLLATE "C"  PRIMARY KEY,
    matricule         text COLLATE "C",
    nom               text         NOT NULL,
    prenom            text,
    ministere         text,
    avatar            text,
    sexe              text,
    email             text,
    username          text,
    telephone         text,
    preferences       json,        -- as it was written: jsonb turns 1e22 into digits
    status            text         NOT NULL,
    roles             text[]       NOT NULL,
    email_verified    boolean      NOT NULL,
    mfa_enabled       boolean      NOT NULL,
    user_type         text,
    customer_id       text,
    is_company_owner  boolean      NOT NULL,
    created_at        timestamptz  NOT NULL,
    updated_at        timestamptz  NOT NULL,
    version           integer      NOT NULL
-- Room on each page for the next versions of its rows; vacuumed when there is something to gain, however large.
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05);
CREATE INDEX users_v1_matricule ON users_v1 (matricule);
