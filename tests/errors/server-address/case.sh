printf 'postgres = "service=assistant"\ntable = "sessions"\ncolumns = { chat_id = "id", model = "model" }\n' > table.toml
grep -v path policy.toml | grep -v chats | cat - table.toml > ingrid.toml
reconcile $REDACT --dry-run --policy ingrid.toml --connect ingrid
