echo '[chats' > ingrid.toml
reconcile $REDACT owed --policy ingrid.toml
