grep -v path policy.toml > nameless.toml
reconcile $REDACT --dry-run --policy nameless.toml
