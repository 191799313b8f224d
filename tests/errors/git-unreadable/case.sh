git init -q
git add policy.toml
git commit -q -m First
rm -f .git/objects/$(git rev-parse HEAD:policy.toml | sed 's/../&\//')
reconcile $REDACT diff --from git:HEAD
