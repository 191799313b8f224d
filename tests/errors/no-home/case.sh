printf '[models]\nallowed = ["opus"]\nfallback = "opus"\n[registry]\npath = "~/sessions.json"\n' > policy.toml
unset HOME
reconcile $REDACT --dry-run
