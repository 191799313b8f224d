reconcile --chat +16175550142 > /dev/null 2>&1
sed -n 's/"run":"[^"]*"/"run":"20260101T000000000001Z"/p; s/000001Z/000002Z/p' sessions.json.reconcile/history.jsonl > two.jsonl
cat two.jsonl > sessions.json.reconcile/history.jsonl
reconcile $REDACT undo 2026
