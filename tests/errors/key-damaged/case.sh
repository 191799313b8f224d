mkdir -m 700 sessions.json.reconcile
echo Ingrid > sessions.json.reconcile/redact.key
chmod 600 sessions.json.reconcile/redact.key
reconcile --dry-run --redact
