printf '[sessions]\nbackend = "openclaw"\n' | cat policy.toml - | grep -v path > gateway.toml
export RECONCILE_GATEWAY_FINGERPRINT=ingrid
reconcile $REDACT --dry-run --policy gateway.toml
