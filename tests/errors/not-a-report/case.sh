echo Ingrid > ingrid.json
reconcile $REDACT --plan ingrid.json
