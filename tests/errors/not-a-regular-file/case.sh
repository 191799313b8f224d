mkfifo ingrid.json
reconcile $REDACT --dry-run --registry ingrid.json
