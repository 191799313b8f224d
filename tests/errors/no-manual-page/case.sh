reconcile man ingrid
