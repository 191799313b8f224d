grep -v path policy.toml > nameless.toml
reconcile launch +16175550142 --policy nameless.toml -- true
