"""`python -m pdfs.mount`: the daemon as a process of its own.

Reads one request from standard input, writes events as lines of JSON to standard output until the
stage is mounted, and goes on without a terminal.
"""

import json
import logging
import os
import resource
import sys
from collections.abc import Mapping

from pdfs.disk import open_null
from pdfs.errors import PdfsError
from pdfs.mount.control import described
from pdfs.mount.daemon import run
from pdfs.mount.request import decode_request

_QUIET = {"mounted", "closed", "failed"}


def main() -> int:
    """Returns the exit code."""
    # A core would hold the credentials, and files of others; checkpoint processes inherit this.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        request = decode_request(sys.stdin.buffer.readline())
    except PdfsError as error:
        _write({"event": "failed", "refusal": None, **described(error)})
        return error.exit_code
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s"
    )
    # Else it says each time where it found credentials.
    logging.getLogger("botocore").setLevel(logging.WARNING)
    os.chdir("/")
    return run(request, _report)


def _report(event: Mapping[str, object]) -> None:
    """Tell whoever started us; once mounted there may be nobody any more."""
    try:
        _write(event)
    except (OSError, ValueError):
        return
    if event["event"] in _QUIET:
        _let_go()


def _write(event: Mapping[str, object]) -> None:
    sys.stdout.write(json.dumps(event) + "\n")
    sys.stdout.flush()


def _let_go() -> None:
    """Close standard input and output: who waits for their end goes on."""
    null = open_null()
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.close(null)


if __name__ == "__main__":
    sys.exit(main())
