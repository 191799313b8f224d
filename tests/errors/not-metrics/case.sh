echo Hello > ingrid.txt
reconcile $REDACT --metrics ingrid.txt
