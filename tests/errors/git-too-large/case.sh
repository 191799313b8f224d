git init -q
mv policy.toml small.toml
head -c 17000000 /dev/zero > policy.toml
git add policy.toml
git commit -q -m First
mv small.toml policy.toml
reconcile $REDACT diff --from git:HEAD
