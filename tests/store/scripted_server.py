"""An HTTP server that answers as it is told: what no real store can be made to say."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from email.utils import formatdate

DATE = 1_700_000_000.0
"""The server's time, in every answer."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it arrived."""

    method: str
    target: str
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes


Answer = bytes | None
"""The bytes to send before the connection is closed; None = silence until the client gives up."""


@dataclass(slots=True)
class Script:
    """What the server says to each request, and what it was asked."""

    answer: Callable[[Request], Answer] = lambda _: b""
    requests: list[Request] = field(default_factory=list)


@contextmanager
def scripted_server() -> Iterator[tuple[str, Script]]:
    """The endpoint, and the script, which may be changed between requests."""
    script = Script()
    over = threading.Event()
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        thread = threading.Thread(target=_serve, args=(listener, script, over))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}", script
        finally:
            over.set()
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def _serve(listener: socket.socket, script: Script, over: threading.Event) -> None:
    talks: list[threading.Thread] = []
    with suppress(OSError):
        while True:
            connection, _ = listener.accept()
            talk = threading.Thread(target=_talk, args=(connection, script, over))
            talk.start()
            talks.append(talk)
    for talk in talks:
        talk.join()


def _talk(connection: socket.socket, script: Script, over: threading.Event) -> None:
    with closing(connection), suppress(OSError):
        connection.settimeout(5)
        request = _read(connection)
        if request is None:
            return
        script.requests.append(request)
        answer = script.answer(request)
        if answer is None:
            over.wait()
            return
        connection.sendall(answer)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(1 << 16):
            pass


def _read(connection: socket.socket) -> Request | None:
    received = b""
    while b"\r\n\r\n" not in received:
        piece = connection.recv(1 << 16)
        if not piece:
            return None
        received += piece
    head, _, body = received.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    method, target, _ = first.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (x.partition(":") for x in lines)}
    if headers.get("expect") == "100-continue":
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
    while len(body) < int(headers.get("content-length", 0)):
        body += connection.recv(1 << 16)
    return Request(method, target, headers, body)


def answer(status: int, body: bytes = b"", **headers: str) -> bytes:
    """A whole answer; underscores in header names stand for hyphens, an empty value for none."""
    date = formatdate(DATE, usegmt=True)
    fields = {"Content-Length": str(len(body)), "Connection": "close", "Date": date}
    fields |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [
        f"HTTP/1.1 {status} X",
        *(f"{name}: {value}" for name, value in fields.items() if value),
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


def refusal(status: int, code: str, message: str = "because", **headers: str) -> bytes:
    """An error as S3 writes it."""
    body = (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    )
    return answer(status, body.encode(), Content_Type="application/xml", **headers)
