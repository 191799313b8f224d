reconcile record-session +16175550199 0c7e6a52
