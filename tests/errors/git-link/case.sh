git init -q
mv policy.d/ingrid-solheim.toml solheim.toml
ln -s ../solheim.toml policy.d/ingrid-solheim.toml
git add policy.d
git commit -q -m First
mv solheim.toml policy.d/ingrid-solheim.toml
reconcile $REDACT diff --policy policy.d --from git:HEAD
