mkdir bin
ln -s "$(command -v reconcile)" bin/reconcile
touch bin/git
PATH=$PWD/bin reconcile $REDACT diff --from git:HEAD
