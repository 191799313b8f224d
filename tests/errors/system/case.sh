ln -sf nowhere policy.d/ingrid-solheim.toml
reconcile $REDACT --dry-run --policy policy.d
