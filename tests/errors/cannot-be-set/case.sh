printf '[sessions]\nbackend = "dispatch"\nsocket = "daemon.sock"\n' >> policy.toml
sed -e 's/individual/group/' sessions.json > groups.json
reconcile $REDACT set-model +16175550142 opus --registry groups.json
