reconcile $REDACT diff --from ingrid.toml
