printf '[registry]\npath = "sessions.json"\n[chats\n' > damaged.toml
reconcile launch +16175550199 --policy damaged.toml -- true
