reconcile $REDACT set-model +16175550142 ingrid
