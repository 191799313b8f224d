reconcile $REDACT undo ingrid
