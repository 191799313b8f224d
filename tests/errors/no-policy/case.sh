reconcile $REDACT --dry-run --policy ingrid.toml
