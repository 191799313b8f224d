reconcile snapshot --redact --redact-key redact.key > snapshot.json
reconcile snapshot --redact --redact-key redact.key --registry snapshot.json
