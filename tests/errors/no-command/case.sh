sed 's/"imessage.*42"/null/' sessions.json > nameless.json
reconcile launch +16175550142 --registry nameless.json -- echo {session_name}
