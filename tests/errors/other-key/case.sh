reconcile snapshot --redact --redact-key redact.key > snapshot.json
reconcile snapshot --redact > other.json
reconcile --dry-run --registry snapshot.json --redact-key sessions.json.reconcile/redact.key
