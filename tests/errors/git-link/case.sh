git init -q
mv policy.toml ingrid.toml
ln -s ingrid.toml policy.toml
git add policy.toml
git commit -q -m First
mv ingrid.toml policy.toml
reconcile $REDACT diff --from git:HEAD
