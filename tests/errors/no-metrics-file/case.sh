reconcile $REDACT --metrics ingrid/metrics.prom
