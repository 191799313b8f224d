reconcile snapshot --redact --redact-key redact.key > snapshot.json
reconcile --registry snapshot.json --redact-key redact.key
