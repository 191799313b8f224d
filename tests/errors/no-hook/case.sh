echo Ingrid | reconcile record-session +16175550142 --stdin
