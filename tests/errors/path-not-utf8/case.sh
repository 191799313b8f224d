cp sessions.json "$(printf 'ingrid-\377.json')"
reconcile adopt --registry "$(printf 'ingrid-\377.json')"
