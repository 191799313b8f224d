printf '[models.retired]\nhaiku = { on = 2020-01-01, use = "sonnet" }\n' >> policy.toml
reconcile $REDACT set-model "Ingrid Solheim" haiku
