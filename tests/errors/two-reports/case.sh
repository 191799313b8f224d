reconcile $REDACT --dry-run --output json=ingrid.json --output text=ingrid.json
