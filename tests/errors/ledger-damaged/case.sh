mkdir -m 700 sessions.json.reconcile
echo Ingrid > sessions.json.reconcile/ledger.journal
chmod 600 sessions.json.reconcile/ledger.journal
reconcile $REDACT owed
