reconcile snapshot --redact --redact-key redact.key > snapshot.json
reconcile launch +16175550142 --registry snapshot.json -- true
