printf '[sessions]\nbackend = "dispatch"\nsocket = "ingrid"\n' >> policy.toml
touch ingrid
reconcile $REDACT
