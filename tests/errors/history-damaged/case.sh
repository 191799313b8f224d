reconcile --chat +16175550142 > /dev/null 2>&1
echo Ingrid > sessions.json.reconcile/history.jsonl
reconcile $REDACT history
