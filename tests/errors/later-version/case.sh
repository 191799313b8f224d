mkdir -m 700 sessions.json.reconcile
echo '{"version": 9}' > sessions.json.reconcile/owed.json
chmod 600 sessions.json.reconcile/owed.json
reconcile $REDACT owed
