-- What reconcile remembers, in a schema of its own. Format 1.
BEGIN;
CREATE SCHEMA reconcile;

-- One row for each table that is a registry. A run locks it for each of its transactions, and holds the registry until then.
CREATE TABLE reconcile.registry (
    name       text COLLATE "C" PRIMARY KEY,
    format     integer NOT NULL DEFAULT 1,
    holder     text,
    held_until timestamptz,
    commits    bigint NOT NULL DEFAULT 0
);

-- The restarts that are owed, and what else one run must know of those before it: one row for each chat or model.
CREATE TABLE reconcile.memory (
    registry text COLLATE "C" NOT NULL REFERENCES reconcile.registry,
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
COMMIT;
