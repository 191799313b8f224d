mkdir bin
ln -s "$(command -v reconcile)" bin/reconcile
PATH=$PWD/bin reconcile $REDACT diff --from git:HEAD
