git init -q
git add sessions.json
git commit -q -m First
reconcile $REDACT diff --from git:HEAD
