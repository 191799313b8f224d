mkdir -m 777 sessions.json.reconcile
reconcile $REDACT
