printf '[sessions]\nbackend = "openclaw"\ntoken = { file = "ingrid" }\n' | cat policy.toml - | grep -v path > gateway.toml
touch ingrid
chmod 600 ingrid
reconcile $REDACT --dry-run --policy gateway.toml
