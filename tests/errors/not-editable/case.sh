printf 'chats = {\n  "+16175550142".model = "opus"\n}\n' | cat - policy.toml | grep -v '^.chats' > inline.toml
reconcile $REDACT unset-model +16175550142 --policy inline.toml
