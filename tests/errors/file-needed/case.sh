reconcile $REDACT --dry-run --output json=sessions.json
