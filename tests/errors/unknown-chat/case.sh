reconcile $REDACT --dry-run --chat "Ingrid Solheimer"
