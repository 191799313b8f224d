printf '[sessions]\nrunning = ["sh", "running.sh"]\nrestart = ["true"]\n' >> policy.toml
printf 'cp sessions.json new.json\nmv new.json sessions.json\n' > running.sh
reconcile $REDACT
