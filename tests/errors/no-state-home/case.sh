printf '[sessions]\nbackend = "openclaw"\n' | cat policy.toml - | grep -v path > gateway.toml
unset HOME
reconcile $REDACT --dry-run --policy gateway.toml
