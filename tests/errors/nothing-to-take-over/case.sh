reconcile $REDACT --take-over +16175550142
