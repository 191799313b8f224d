reconcile init
