sed 's/"haiku"/null/' sessions.json > without.json
reconcile --registry without.json --chat +16175550142 > /dev/null 2>&1
reconcile $REDACT undo last --registry without.json
