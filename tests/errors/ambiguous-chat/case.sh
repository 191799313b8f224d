sed 's/Mirela/Bruno/' sessions.json > doubled.json
reconcile $REDACT --dry-run --registry doubled.json --chat "Bruno Takahashi"
