mkdir -m 700 ingrid.toml.reconcile-sessions
cp sessions.json "ingrid.toml.reconcile-sessions/$(printf %s +16175550142 | sha256sum | cut -c 1-32).json"
echo '[chats' > ingrid.toml
reconcile launch +16175550142 --policy ingrid.toml -- false
