git init -q
git add policy.toml
git commit -q -m First
rm -f .git/objects/$(git rev-parse HEAD^{tree} | sed 's/../&\//')
reconcile $REDACT diff --from git:HEAD
