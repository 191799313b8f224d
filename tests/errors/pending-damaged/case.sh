printf '[sessions]\nbackend = "dispatch"\nsocket = "ingrid"\n' >> policy.toml
mkdir -m 700 sessions.json.reconcile
echo Ingrid > sessions.json.reconcile/pending.json
chmod 600 sessions.json.reconcile/pending.json
reconcile $REDACT
