"""The same work, as one would write it in Python: json, or orjson if the first argument says so.

plain.py json|orjson REGISTRY          prints what differs
plain.py json|orjson REGISTRY --apply  and replaces the registry, with fsync
"""

import importlib
import os
import sys

MODELS = {"admin": "opus", "wife": "opus", "family": "sonnet", "favorite": "sonnet", "bots": "haiku", "unknown": "haiku"}

library, path = sys.argv[1:3]
json = importlib.import_module(library)
with open(path, "rb") as file:
    sessions = json.loads(file.read())

differing = 0
for chat, entry in sorted(sessions.items()):
    wanted = MODELS.get(entry.get("tier"), "sonnet")
    if entry.get("model") != wanted:
        differing += 1
        print(chat, entry["session_name"], entry.get("model"), "->", wanted)
        entry["model"] = wanted
print(differing, "of", len(sessions), "differ")

if "--apply" in sys.argv:
    new = path + ".new"
    with open(new, "wb") as file:
        if library == "json":
            file.write(json.dumps(sessions, indent=2).encode())
        else:
            file.write(json.dumps(sessions, option=json.OPT_INDENT_2))
        file.flush()
        os.fsync(file.fileno())
    os.rename(new, path)
