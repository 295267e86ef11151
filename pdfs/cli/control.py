"""Speaking with a daemon: JSON lines on its control socket.

request   {"v": 1, "id": n, "do": "status" | "publish" | "umount" | "abort" | "subscribe", …}
answer    {"v": 1, "id": n, "ok": true, "result": {…}}
          {"v": 1, "id": n, "ok": false, "error": {"kind", "exit_code", "what", "remedy"}}
event     {"v": 1, "event": …, …}, after `subscribe`
"""

import contextlib
import json
import selectors
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import PurePath
from types import MappingProxyType
from typing import Any, Final

from pdfs.core.ids import SessionId
from pdfs.disk import OsDisk
from pdfs.errors import DaemonError, DaemonSilent, TimedOut

VERSION: Final = 1
QUICK: Final = 10.0
"""Seconds within which a daemon that lives tells its status."""
_LONGEST: Final = 64 << 20
_CHUNK: Final = 1 << 16

Event = Mapping[str, Any]
NOTHING: Final[Event] = MappingProxyType({})


class Control:
    """One connection to a session's daemon. A context manager."""

    def __init__(self, runtime: PurePath, session: SessionId) -> None:
        """Connect. Raises DaemonSilent."""
        path = runtime / f"{session}.sock"
        disk, directory = OsDisk(), -1
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._selector = selectors.DefaultSelector()
        self._rest = b""
        self._number = 0
        try:
            self._socket.settimeout(QUICK)
            directory = disk.open_directory(str(runtime))
            # By descriptor: a socket's own path may have no more than 107 bytes.
            self._socket.connect(f"/proc/self/fd/{directory}/{path.name}")
        except OSError as error:
            self.close()
            raise DaemonSilent(
                f"the daemon of session {session} does not answer at {path}: {error.strerror}"
            ) from error
        finally:
            if directory >= 0:
                disk.close(directory)
        self._selector.register(self._socket, selectors.EVENT_READ)

    def close(self) -> None:
        """End the connection; the daemon goes on."""
        self._selector.close()
        self._socket.close()

    def __enter__(self) -> "Control":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ask(
        self,
        request: str,
        *,
        given: Event = NOTHING,
        timeout: float | None = QUICK,
        on_event: Callable[[Event], None] | None = None,
    ) -> Event:
        """The result of a request, with what is `given` to it.

        Raises DaemonError, DaemonSilent, TimedOut. Events that come meanwhile go to `on_event`.
        """
        number = self.send(request, given)
        for message in self._messages(timeout):
            if message.get("id") == number:
                return _result(message)
            if on_event is not None and "event" in message:
                on_event(message)
        raise DaemonSilent("the daemon ended without an answer", remedy="pdfs status")

    def send(self, request: str, given: Event = NOTHING) -> int:
        """Send a request without waiting for its answer; its number."""
        self._number += 1
        line = json.dumps({"v": VERSION, "id": self._number, "do": request, **given}) + "\n"
        try:
            self._socket.sendall(line.encode())
        except OSError as error:
            raise DaemonSilent(f"the daemon does not listen any more: {error.strerror}") from error
        return self._number

    def _messages(self, timeout: float | None) -> Iterator[dict[str, Any]]:
        """What the daemon says, until it ends the connection. Raises TimedOut."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            line, separator, rest = self._rest.partition(b"\n")
            if separator:
                self._rest = rest
                yield _message(line)
                continue
            if len(self._rest) > _LONGEST:
                raise DaemonSilent("the daemon says something that is no answer")
            left = None if deadline is None else deadline - time.monotonic()
            if (left is not None and left <= 0) or not self._selector.select(left):
                raise TimedOut(f"the daemon has not answered within {timeout:g} s")
            received = b""
            with contextlib.suppress(ConnectionError):
                received = self._socket.recv(_CHUNK)
            if not received:
                return
            self._rest += received


def is_served(runtime: PurePath, session: SessionId) -> bool:
    """Whether a daemon listens; also of one that is stopped, and will not answer."""
    try:
        with Control(runtime, session):
            return True
    except DaemonSilent:
        return False


def _message(line: bytes) -> dict[str, Any]:
    try:
        message = json.loads(line)
    except ValueError:
        message = None
    if not isinstance(message, dict) or message.get("v") != VERSION:
        raise DaemonSilent(
            "the daemon speaks another language than this pdfs",
            remedy="it may be of another version: unmount with that one",
        )
    return message


def _result(message: dict[str, Any]) -> Event:
    if message.get("ok"):
        result: Event = message.get("result", {})
        return result
    error = message.get("error", {})
    raise DaemonError(
        error.get("kind", "PdfsError"),
        int(error.get("exit_code", 1)),
        error.get("what", "the daemon refused"),
        error.get("remedy", ""),
    )
