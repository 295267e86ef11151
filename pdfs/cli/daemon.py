"""Starting a daemon as a process of its own, and hearing how its start goes.

It is started by exec, in a session of its own, and inherits nothing but a pipe that it closes once
the mount can be used. What it complains of later is in its log, in the state directory.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from pdfs.cli.control import Event
from pdfs.cli.sessions import state_of
from pdfs.config import Configuration
from pdfs.disk import OsDisk, opened, read_fully
from pdfs.errors import StartFailed
from pdfs.local.session_directory import words
from pdfs.mount.request import MountRequest, encode_request

_COMMAND: Final = (sys.executable, "-m", "pdfs.mount")
_ENDING: Final = 15.0
"""Seconds that a daemon gets to take its mount away when its start is interrupted."""
_TAIL: Final = 2000


@dataclass(slots=True)
class Outcome:
    """How a start ended."""

    mounted: Event | None = None
    """The `mounted` event; None where the session is over already."""
    closed: Event | None = None
    failed: Event | None = None
    events: list[str] = field(default_factory=list)


def start_daemon(request: MountRequest, on_event: Callable[[Event], None]) -> Outcome:
    """Start it; returns when its mount can be used, or its session has ended well.

    Raises StartFailed, DiskError. Interrupted, it ends the daemon, which keeps what was begun.
    """
    with _log_of(request.configuration) as log:
        process = subprocess.Popen(
            _COMMAND,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log.descriptor,
            cwd="/",
            close_fds=True,
            start_new_session=True,
        )
        try:
            outcome = _listen(process, encode_request(request), on_event)
        except KeyboardInterrupt:
            _end(process)
            raise
        if outcome.mounted is None and outcome.closed is None:
            _end(process)
            raise _start_failed(outcome.failed or _unheard(log, process), log.tail())
        # It goes on without us: its exit is nobody's to wait for.
        process.returncode = process.returncode if outcome.mounted is None else 0
        return outcome


def _listen(
    process: "subprocess.Popen[bytes]", request: bytes, on_event: Callable[[Event], None]
) -> Outcome:
    assert process.stdin is not None
    assert process.stdout is not None
    outcome = Outcome()
    with process.stdin as requests, process.stdout as events:
        try:
            requests.write(request)
            requests.close()
        except BrokenPipeError:
            pass  # it ended at once, and says why
        for line in events:
            event: dict[str, Any] = json.loads(line)
            match event.get("event"):
                case "mounted":
                    outcome.mounted = event
                    return outcome
                case "closed":
                    outcome.closed = event
                case "failed":
                    outcome.failed = event
                case _:
                    on_event(event)
    return outcome


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Let it end as after an unmount, if it still lives."""
    try:
        process.wait(1.0 if process.poll() is None else 0)
    except subprocess.TimeoutExpired:
        process.terminate()
        try:
            process.wait(_ENDING)
        except subprocess.TimeoutExpired:
            process.returncode = 0  # still publishing: it is on its own now


def _start_failed(event: Event, said: str) -> StartFailed:
    return StartFailed(
        str(event.get("kind", "PdfsError")),
        int(event.get("exit_code", 1)),
        str(event.get("what", "")),
        str(event.get("remedy", "")),
        refusal=str(event.get("refusal") or "").lower(),
        said=said,
    )


def _unheard(log: "_Log", process: "subprocess.Popen[bytes]") -> Event:
    return {
        "kind": "PdfsError",
        "exit_code": 1,
        "what": f"the daemon ended without a word (status {process.returncode})",
        "remedy": f"its log is {log.path}",
    }


@dataclass(frozen=True, slots=True)
class _Log:
    descriptor: int
    path: str

    def tail(self) -> str:
        """The last lines."""
        size = os.fstat(self.descriptor).st_size
        raw = read_fully(self.descriptor, min(size, _TAIL), max(0, size - _TAIL))
        return raw.decode(errors="replace").strip()


@contextmanager
def _log_of(configuration: Configuration) -> Iterator[_Log]:
    """A new file in the state directory that takes what the daemon prints. Raises DiskError."""
    disk = OsDisk()
    name = f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log"
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND
    path = configuration.state / "logs" / name
    with ExitStack() as stack:
        with words(f"write {path}"):
            state = stack.enter_context(state_of(configuration))
            descriptor = stack.enter_context(opened(disk, state.logs, name, flags))
        yield _Log(descriptor, str(path))
