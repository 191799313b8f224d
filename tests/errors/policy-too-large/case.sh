head -c 17000000 /dev/zero > policy.d/ingrid-solheim.toml
reconcile $REDACT --dry-run --policy policy.d
