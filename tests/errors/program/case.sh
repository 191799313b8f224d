printf '[sessions]\nrestart = ["./ingrid"]\n' >> policy.toml
reconcile $REDACT
