-- Changes the schema reconcile from format 1 to format 2.
BEGIN;
ALTER TABLE reconcile.registry
    ALTER COLUMN format SET DEFAULT 2,
    ADD COLUMN id integer NOT NULL GENERATED ALWAYS AS IDENTITY UNIQUE,
    ADD COLUMN reach text,
    ADD COLUMN policy text,
    ADD COLUMN policy_at timestamptz;
UPDATE reconcile.registry SET format = 2;

-- The registry was looked up by it for each row, which took longer than to insert the row.
ALTER TABLE reconcile.memory DROP CONSTRAINT memory_registry_fkey;

-- What each chat was last given, NULL for a model that was there before a run looked; only with existing = "keep-manual". The
-- registry is the id of one.
CREATE TABLE reconcile.chat (
    registry     integer NOT NULL,
    chat_id      text COLLATE "C" NOT NULL,
    last_applied text,
    PRIMARY KEY (registry, chat_id)
);
COMMIT;
