reconcile $REDACT check --within 9000y
