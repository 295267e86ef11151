"""An HTTP relay before a real S3 server: notes every exchange, and lets a rule decide about each.

Requests go on byte for byte, `Host` included, so signatures stay good. A rule can change a request,
hold it up, answer in the server's place, or spoil the answer: what no real server can be made to do
at the right moment, to the clients and processes that users have.
"""

import http.client
import itertools
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.store.servers import Server

GIVE_UP = 120.0
"""Seconds after which a server that says nothing fails the test."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One request, as the client sent it."""

    number: int
    method: str
    target: str
    headers: Sequence[tuple[str, str]]
    body: bytes
    arrived: float
    """When it was here as a whole, by `time.monotonic`, which all processes share."""

    @property
    def key(self) -> str:
        """The object's key in the bucket; empty for a request of the bucket."""
        return unquote(urlsplit(self.target).path).partition("/")[2].partition("/")[2]

    @property
    def query(self) -> dict[str, str]:
        """Its parameters, by name; those without a value have an empty one."""
        found = parse_qs(urlsplit(self.target).query, keep_blank_values=True)
        return {name: values[0] for name, values in found.items()}

    def header(self, name: str) -> str | None:
        """The value of a header, None without it."""
        return next((value for each, value in self.headers if each.lower() == name), None)

    def without(self, *names: str) -> "Asked":
        """The same without headers, named in lower case."""
        return replace(
            self, headers=[each for each in self.headers if each[0].lower() not in names]
        )

    @property
    def is_write(self) -> bool:
        """Whether it makes, replaces or removes an object."""
        if self.method == "POST":
            return "uploadId" in self.query
        return self.method in ("PUT", "DELETE") and bool(self.key) and "uploadId" not in self.query


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """One answer."""

    status: int
    headers: Sequence[tuple[str, str]] = ()
    body: bytes = b""
    is_last: bool = False
    """The connection is closed after it."""

    def header(self, name: str) -> str | None:
        """The value of a header, None without it."""
        return next((value for each, value in self.headers if each.lower() == name), None)


Forward = Callable[[Asked], Answered]
Pieces = Iterator[bytes]
Rule = Callable[[Asked, Forward], Answered | Pieces | None]
"""What becomes of a request: an answer; pieces of raw bytes after which the connection is closed;
or None, which closes it without an answer."""


def through(asked: Asked, forward: Forward) -> Answered:
    """The rule of a relay that changes nothing."""
    return forward(asked)


@dataclass(slots=True)
class Exchange:
    """A request, and when and how it was answered."""

    asked: Asked
    answered: float | None = None
    """When the answer began to be sent; None while it is under way, and without one."""
    status: int | None = None
    carried_out: list[int] = field(default_factory=list)
    """What the server said to it each time it was sent on."""

    @property
    def was_carried_out(self) -> bool:
        """Whether the server did what was asked, whatever the client was told."""
        return any(200 <= status < 300 for status in self.carried_out)


@dataclass(slots=True)
class Relay:
    """A relay that runs. `rule` may be changed between requests."""

    server: Server
    """The same server, by way of the relay."""
    rule: Rule = through
    exchanges: list[Exchange] = field(default_factory=list)


@contextmanager
def relayed(server: Server, rule: Rule = through, *, kind: str | None = None) -> Iterator[Relay]:
    """A relay before the server, until the block ends; requests under way are cut then."""
    relay = Relay(server=server, rule=rule)
    serving = _Serving(relay, server.endpoint)
    port = serving.server_address[1]
    relay.server = replace(server, kind=kind or server.kind, endpoint=f"http://127.0.0.1:{port}")
    thread = threading.Thread(target=serving.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield relay
    finally:
        serving.shutdown()
        serving.cut_all()
        serving.server_close()  # waits for the threads of all connections
        thread.join()


def refusal(status: int, code: str, message: str, **headers: str) -> Answered:
    """An error as S3 writes it."""
    body = (
        '<?xml version="1.0" encoding="UTF-8"?>'
        f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    ).encode()
    given = [(name.replace("_", "-"), value) for name, value in headers.items()]
    fields = [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))]
    return Answered(status=status, headers=[*fields, *given], body=body)


class _Serving(ThreadingHTTPServer):
    daemon_threads = False
    block_on_close = True

    def __init__(self, relay: Relay, endpoint: str) -> None:
        super().__init__(("127.0.0.1", 0), _Connection)
        self.relay = relay
        parts = urlsplit(endpoint)
        assert parts.hostname is not None
        assert parts.port is not None
        self.behind = (parts.hostname, parts.port)
        self.numbers = itertools.count()
        self._open: set[socket.socket] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def cut_all(self) -> None:
        """End what is under way with clients that are gone, or keep a connection for later."""
        for each in list(self._open):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away amid an exchange is none of the test's business."""


class _Connection(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Serving
    _behind: http.client.HTTPConnection | None = None

    def finish(self) -> None:
        super().finish()
        if self._behind is not None:
            self._behind.close()

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _exchange(self) -> None:
        asked = Asked(
            number=next(self.server.numbers),
            method=self.command,
            target=self.path,
            headers=list(self.headers.items()),
            body=self.rfile.read(int(self.headers.get("Content-Length", "0"))),
            arrived=time.monotonic(),
        )
        exchange = Exchange(asked)
        self.server.relay.exchanges.append(exchange)
        answer = self.server.relay.rule(asked, partial(self._forward, exchange))
        if answer is None:
            self.close_connection = True
        elif isinstance(answer, Answered):
            exchange.answered, exchange.status = time.monotonic(), answer.status
            self._send(answer)
        else:
            self.close_connection = True
            for piece in answer:
                exchange.answered = exchange.answered or time.monotonic()
                self.wfile.write(piece)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _exchange  # noqa: N815 - as they are called

    def _forward(self, exchange: Exchange, asked: Asked) -> Answered:
        if self._behind is None:
            self._behind = http.client.HTTPConnection(*self.server.behind, timeout=GIVE_UP)
        self._behind.putrequest(
            asked.method, asked.target, skip_host=True, skip_accept_encoding=True
        )
        for name, value in asked.headers:
            self._behind.putheader(name, value)
        self._behind.endheaders(asked.body or None)
        answer = self._behind.getresponse()
        dropped = ("transfer-encoding", "connection", "keep-alive")
        headers = [each for each in answer.getheaders() if each[0].lower() not in dropped]
        if answer.will_close:
            self._behind.close()
        exchange.carried_out.append(answer.status)
        return Answered(status=answer.status, headers=headers, body=answer.read())

    def _send(self, answer: Answered) -> None:
        self.wfile.write(wire(answer, has_body=self.command != "HEAD"))
        self.close_connection = self.close_connection or answer.is_last


def wire(answer: Answered, *, has_body: bool = True) -> bytes:
    """The bytes of an answer."""
    names = {name.lower() for name, _ in answer.headers}
    lines = [f"HTTP/1.1 {answer.status} X", *(f"{name}: {value}" for name, value in answer.headers)]
    if "content-length" not in names and answer.status not in (204, 304):
        lines.append(f"Content-Length: {len(answer.body)}")
    if "date" not in names:
        lines.append(f"Date: {formatdate(usegmt=True)}")
    if answer.is_last:
        lines.append("Connection: close")
    head = "\r\n".join([*lines, "", ""]).encode("latin-1")
    return head + answer.body if has_body else head
