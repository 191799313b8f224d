reconcile $REDACT diff --from git:
