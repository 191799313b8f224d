git init -q
export GIT_TEST_ASSUME_DIFFERENT_OWNER=1
reconcile $REDACT diff --from git:HEAD
