mkdir ingrid
reconcile $REDACT --dry-run --output json=ingrid
