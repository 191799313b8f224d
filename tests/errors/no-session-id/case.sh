echo '{"session_id": "../ingrid"}' | reconcile record-session +16175550142 --stdin
