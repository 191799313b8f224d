printf '[sessions]\nbackend = "openclaw"\n' | cat policy.toml - | grep -v path > gateway.toml
reconcile $REDACT --policy gateway.toml --registry sessions.json
