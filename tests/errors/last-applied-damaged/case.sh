sed 's/^path/existing = "keep-manual"\npath/' policy.toml > keep.toml
reconcile --policy keep.toml > /dev/null 2>&1
echo Ingrid > sessions.json.reconcile/last-applied
reconcile $REDACT --policy keep.toml
