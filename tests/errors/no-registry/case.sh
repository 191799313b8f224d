reconcile $REDACT --dry-run --registry ingrid.json
