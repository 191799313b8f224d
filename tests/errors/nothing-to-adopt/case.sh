reconcile adopt --policy ingrid.toml
