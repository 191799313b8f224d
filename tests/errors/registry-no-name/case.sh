reconcile $REDACT --dry-run --registry /
