"""restarts.py COUNT PARALLEL COMMAND…: runs the command so many times, so many at once."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

count, parallel, command = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
with ThreadPoolExecutor(parallel) as pool:
    list(pool.map(lambda _: subprocess.run(command, check=True), range(count)))
