reconcile $REDACT --dry-run --output json=plan.json > /dev/null 2>&1
sed 's/"haiku"/"sonnet"/' plan.json > ingrid.json
reconcile $REDACT --plan ingrid.json
