head -c 20000000 /dev/zero > ingrid.toml
reconcile $REDACT --dry-run --policy ingrid.toml
