printf '[sessions]\nbackend = "dispatch"\n' >> policy.toml
reconcile launch +16175550142 -- true
