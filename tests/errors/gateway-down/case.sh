printf '[sessions]\nbackend = "openclaw"\nurl = "ws://127.0.0.1:1"\n' | cat policy.toml - | grep -v path > gateway.toml
reconcile $REDACT --dry-run --policy gateway.toml
