reconcile --chat +16175550142 > /dev/null 2>&1
echo '{"version": 9}' >> sessions.json.reconcile/history.jsonl
reconcile $REDACT history
