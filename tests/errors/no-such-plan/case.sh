reconcile $REDACT --plan ingrid.json
