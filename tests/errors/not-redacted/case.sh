reconcile --dry-run --redact-key redact.key
