printf '[sessions]\nbackend = "openclaw"\ntoken = { file = "ingrid" }\n' | cat policy.toml - | grep -v path > gateway.toml
reconcile $REDACT --dry-run --policy gateway.toml
