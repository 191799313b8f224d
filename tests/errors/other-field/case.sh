reconcile $REDACT explain "Ingrid Solheim" --tier bots
