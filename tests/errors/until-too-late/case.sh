reconcile $REDACT set-model +16175550142 opus --until 4000000d
