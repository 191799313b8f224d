mkdir ingrid
reconcile $REDACT --dry-run --policy ingrid
