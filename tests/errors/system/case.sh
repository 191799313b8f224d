reconcile $REDACT --dry-run --registry sessions.json/ingrid
