reconcile $REDACT set-model "Ingrid Solheim" opus --until 2020-01-01
