-- What reconcile remembers, in a schema of its own. Format 2.
BEGIN;
CREATE SCHEMA reconcile;

-- One row for each table that is a registry. A run locks it for each of its transactions, and holds the registry until then. The
-- holder is an id and, behind a space, the application_name of the run. The default of the format is the format of this schema. The
-- policy is the commit by which models were last changed: an older one never overrules it.
CREATE TABLE reconcile.registry (
    name       text COLLATE "C" PRIMARY KEY,
    format     integer NOT NULL DEFAULT 2,
    holder     text,
    held_until timestamptz,
    commits    bigint NOT NULL DEFAULT 0,
    id         integer NOT NULL GENERATED ALWAYS AS IDENTITY UNIQUE,
    reach      text,
    policy     text,
    policy_at  timestamptz
);

-- The restarts that are owed, and what else one run must know of those before it: one row for each chat or model. Nothing refers to
-- the registry by a foreign key, here and in chat: it would be looked up for each row, which takes longer than to insert the row.
CREATE TABLE reconcile.memory (
    registry text COLLATE "C" NOT NULL,
    kind     text COLLATE "C" NOT NULL,
    key      text COLLATE "C" NOT NULL,
    value    json NOT NULL,
    PRIMARY KEY (registry, kind, key)
);

-- The history: one row for each run.
CREATE TABLE reconcile.run (
    registry text COLLATE "C" NOT NULL REFERENCES reconcile.registry,
    name     text COLLATE "C" NOT NULL,
    run      json NOT NULL,
    PRIMARY KEY (registry, name)
);

-- What each chat was last given, NULL for a model that was there before a run looked; only with existing = "keep-manual". The
-- registry is the id of one.
CREATE TABLE reconcile.chat (
    registry     integer NOT NULL,
    chat_id      text COLLATE "C" NOT NULL,
    last_applied text,
    PRIMARY KEY (registry, chat_id)
);
COMMIT;
