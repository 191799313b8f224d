echo '"+16175550199" = { model = "opus", was = ["+16175550142"] }' >> policy.toml
reconcile $REDACT set-model +16175550142 haiku
