reconcile $REDACT diff --from git:HEAD
