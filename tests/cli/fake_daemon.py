"""Stands in for `python -m pdfs.mount`: `fake_daemon.py SCRIPT` answers a request as SCRIPT says.

SCRIPT is a JSON file with a list of runs; each start takes the next one: {"events": […], "said":
"on stderr", "code": 0}. The requests are kept in SCRIPT.requests.
"""

import json
import sys
from pathlib import Path

script = Path(sys.argv[1])
requests = script.with_suffix(".requests")
before = requests.read_text() if requests.exists() else ""
requests.write_text(before + sys.stdin.readline())
run = json.loads(script.read_text())[len(before.splitlines())]
sys.stderr.write(run.get("said", ""))
for event in run["events"]:
    sys.stdout.write(json.dumps(event) + "\n")
sys.exit(run.get("code", 0))
