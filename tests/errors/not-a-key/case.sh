echo Ingrid > ingrid.key
chmod 600 ingrid.key
reconcile --dry-run --redact --redact-key ingrid.key
