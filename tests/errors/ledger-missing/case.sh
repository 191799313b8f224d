mkdir -m 700 sessions.json.reconcile
echo '{"version": 2, "moved_to": "ledger.journal"}' > sessions.json.reconcile/owed.json
chmod 600 sessions.json.reconcile/owed.json
reconcile $REDACT owed
