reconcile $REDACT --dry-run --tier ingrid
