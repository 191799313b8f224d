reconcile $REDACT owed --forget "Ingrid Solheim"
