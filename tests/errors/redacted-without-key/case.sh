reconcile snapshot --redact --redact-key redact.key > snapshot.json
reconcile --dry-run --registry snapshot.json
