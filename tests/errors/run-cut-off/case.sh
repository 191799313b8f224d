reconcile --chat +16175550142 > /dev/null 2>&1
sed 's/"run":"[^"]*"/"run":"20260101T000000000001Z"/; s/"part":1/"part":2/' sessions.json.reconcile/history.jsonl > part.jsonl
cat part.jsonl > sessions.json.reconcile/history.jsonl
reconcile $REDACT undo 20260101T000000000001Z
