printf '[sessions]\nbackend = "openclaw"\nstate = ".."\n' | cat policy.toml - | grep -v path > gateway.toml
reconcile $REDACT --dry-run --policy gateway.toml
