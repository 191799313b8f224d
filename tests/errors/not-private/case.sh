chmod 644 redact.key
reconcile --dry-run --redact --redact-key redact.key
