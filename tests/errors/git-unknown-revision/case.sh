git init -q
git add .
git commit -q -m First
reconcile $REDACT diff --from git:ingrid
