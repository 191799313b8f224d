mkdir -m 700 sessions.json.reconcile
echo Ingrid > sessions.json.reconcile/conditions.json
chmod 600 sessions.json.reconcile/conditions.json
reconcile $REDACT --quiet
