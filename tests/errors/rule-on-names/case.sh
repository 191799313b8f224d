reconcile snapshot --redact --redact-key redact.key > snapshot.json
printf '[[rules]]\nchat = "+1617*"\nmodel = "opus"\n' >> policy.toml
reconcile --dry-run --registry snapshot.json --redact-key redact.key
