"""A daemon that says what a test wants: a session that is held, and a socket in a thread."""

import json
import os
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pdfs.config import Configuration
from pdfs.core.ids import SessionId
from pdfs.disk import OsDisk
from pdfs.local.state import StateDirectory

SESSION = SessionId("5e55105e55105e55105e55105e551000")
OTHER = SessionId("0ddba11e0ddba11e0ddba11e0ddba11e")

Answers = Mapping[str, Callable[[], list[dict[str, Any]]]]
"""For each request: the messages to send; the first without `event` is the answer to it."""


def description(configuration: Configuration, **fields: object) -> dict[str, object]:
    """What a daemon writes into session.json."""
    return {
        "project": "Plant",
        "stage": "planning",
        "user": "anna",
        "machine": "ws7",
        "bucket": configuration.bucket,
        "endpoint": "",
        "mountpoint": "/mnt/plant",
        "pid": 4711,
        "run": "0" * 32,
        "started": 1_800_000_000.0,
        **fields,
    }


@contextmanager
def session_of(
    configuration: Configuration,
    session: SessionId = SESSION,
    *,
    is_held: bool = True,
    is_reader: bool = False,
    **fields: object,
) -> Iterator[None]:
    """A session in the state directory; held by this process meanwhile if `is_held`."""
    with StateDirectory(OsDisk(), configuration.state) as state:
        directory = (state.create_reader if is_reader else state.create_session)(session)
        directory.describe(description(configuration, **fields))
        if not is_held:
            directory.close()
        try:
            yield
        finally:
            directory.close()


@contextmanager
def daemon(
    configuration: Configuration,
    answers: Answers,
    *,
    is_reader: bool = False,
    mountpoint: str = "/mnt/plant",
) -> Iterator[list[str]]:
    """A held session whose daemon answers so; yields the requests that came."""
    runtime = Path(configuration.runtime)
    runtime.mkdir(parents=True, exist_ok=True)
    asked: list[str] = []
    held = session_of(configuration, is_reader=is_reader, mountpoint=mountpoint)
    with held, socket.socket(socket.AF_UNIX) as listening:
        directory = os.open(runtime, os.O_RDONLY)  # a socket's own path may be too long
        listening.bind(f"/proc/self/fd/{directory}/{SESSION}.sock")
        os.close(directory)
        listening.listen()
        thread = threading.Thread(target=_serve, args=(listening, answers, asked), daemon=True)
        thread.start()
        try:
            yield asked
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join(5.0)
            (runtime / f"{SESSION}.sock").unlink()


def _serve(listening: socket.socket, answers: Answers, asked: list[str]) -> None:
    while True:
        try:
            peer, _ = listening.accept()
        except OSError:
            return
        with peer, peer.makefile("r") as requests, peer.makefile("w") as lines:
            for line in requests:
                request = json.loads(line)
                asked.append(request["do"])
                if request["do"] not in answers:
                    break
                for message in answers[request["do"]]():
                    number = {} if "event" in message else {"id": request["id"]}
                    lines.write(json.dumps({"v": 1, **number, **message}) + "\n")
                    lines.flush()


def result(**fields: object) -> Callable[[], list[dict[str, Any]]]:
    """An answer that is a success."""
    return lambda: [{"ok": True, "result": fields}]


def refusal(kind: str, exit_code: int, what: str) -> Callable[[], list[dict[str, Any]]]:
    """An answer that is none."""
    error = {"kind": kind, "exit_code": exit_code, "what": what, "remedy": "do this"}
    return lambda: [{"ok": False, "error": error}]


def never() -> list[dict[str, Any]]:
    """No answer; the connection stays, until who asked goes away."""
    return []


STATUS: dict[str, Any] = {
    "schema": 1,
    "session": SESSION,
    "run": "0" * 32,
    "project": "Plant",
    "stage": "planning",
    "mountpoint": "/mnt/plant",
    "pid": 4711,
    "state": "ACTIVE",
    "bucket": "file:///b (only on this machine)",
    "user": "anna",
    "machine": "ws7",
    "unpublished": {"files": 2, "bytes": 3 << 20},
    "lock": {
        "user": "anna",
        "machine": "ws7",
        "since": "2027-01-15T08:00:00.000Z",
        "renewed": "2027-01-15T08:00:00.000Z",
        "expires": "2027-01-15T20:00:00.000Z",
        "state": "active",
        "fence": 3,
    },
    "trouble": None,
    "is_mounted": True,
    "read_only": None,
    "lost": None,
    "conflicts": [],
    "warnings": [],
    "prefetch": {"files": 1, "of_files": 4, "bytes": 10, "of_bytes": 40},
    "upload": None,
    "timing": {},
}
