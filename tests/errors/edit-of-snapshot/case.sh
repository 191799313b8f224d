reconcile snapshot --redact --redact-key redact.key > snapshot.json
reconcile set-model +16175550142 opus --registry snapshot.json --redact-key redact.key
