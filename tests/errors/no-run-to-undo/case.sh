reconcile $REDACT undo last
