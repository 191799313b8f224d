-- The table of an application that runs a session for each chat.
CREATE TABLE sessions (
    id       text PRIMARY KEY,
    name     text NOT NULL,
    tier     text,
    source   text,
    settings jsonb
);
INSERT INTO sessions VALUES
    ('+16175550142', 'imessage/_16175550142', 'family', 'imessage', '{"llm": {"model": "opus", "temperature": 1}}'),
    ('+16175550107', 'imessage/_16175550107', 'bots', 'imessage', '{"llm": {"model": "haiku"}}'),
    ('discord:428190331', 'discord/428190331', 'bots', 'discord', NULL);
