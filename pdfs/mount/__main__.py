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
from pdfs.errors import DiskError, PdfsError
from pdfs.mount.control import described
from pdfs.mount.daemon import run
from pdfs.mount.request import decode_request

_DESCRIPTORS = 256
"""Files that may have to be open at once; a session of 32 could write, and not be published."""
_QUIET = {"mounted", "closed", "failed"}


def main() -> int:
    """Returns the exit code."""
    # A core would hold the credentials, and files of others; checkpoint processes inherit this.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    has_descriptors = _raise_descriptors()
    try:
        request = decode_request(sys.stdin.buffer.readline())
    except PdfsError as error:
        return _fail(error)
    if not has_descriptors:
        return _fail(
            DiskError(
                f"this process may open {resource.getrlimit(resource.RLIMIT_NOFILE)[1]} files at"
                f" once; to mount, publish and unmount it needs {_DESCRIPTORS}",
                remedy="raise the limit (ulimit -Hn; LimitNOFILE= of a systemd unit) and try again",
            )
        )
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s"
    )
    # Else it says each time where it found credentials.
    logging.getLogger("botocore").setLevel(logging.WARNING)
    os.chdir("/")
    return run(request, _report)


def _raise_descriptors() -> bool:
    """Have as many files open as may be; whether that is enough to come to an end in order."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < _DESCRIPTORS <= hard:
        soft = _DESCRIPTORS
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return soft >= _DESCRIPTORS


def _fail(error: PdfsError) -> int:
    _write({"event": "failed", "refusal": None, **described(error)})
    return error.exit_code


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
