reconcile --dry-run --redact
