printf '[sessions]\nbackend = "openclaw"\n' | cat policy.toml - | grep -v path > gateway.toml
reconcile $REDACT --dry-run --policy gateway.toml --connect http://ingrid.example
