"""What a network and a server can do to one exchange, as rules of a relay."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType

from tests.store.relay import Answered, Asked, Forward, Rule, refusal, wire

LONG = 3.0
"""Seconds that a server says nothing, or little: longer than any client here waits."""


def reset_before(asked: Asked, forward: Forward) -> None:
    """The connection ends before the server has the request."""


def answer_lost(asked: Asked, forward: Forward) -> None:
    """The connection ends after the server has done what was asked."""
    forward(asked)


def hang(asked: Asked, forward: Forward) -> None:
    """Nothing comes back."""
    time.sleep(LONG)


def hang_when_done(asked: Asked, forward: Forward) -> None:
    """Nothing comes back of what the server has done."""
    forward(asked)
    time.sleep(LONG)


def told(status: int, code: str) -> Rule:
    """The server refuses, and does nothing."""

    def rule(asked: Asked, forward: Forward) -> Answered:
        said = refusal(status, code, "planted")
        return replace(said, body=b"") if asked.method == "HEAD" else said

    return rule


def truncated(asked: Asked, forward: Forward) -> Iterator[bytes]:
    """The answer ends in its middle."""
    sent = wire(forward(asked), has_body=asked.method != "HEAD")
    yield sent[: len(sent) // 2]


def too_long(asked: Asked, forward: Forward) -> Iterator[bytes]:
    """The answer announces more bytes than come."""
    answer = forward(asked)
    headers = [each for each in answer.headers if each[0].lower() != "content-length"]
    longer = [*headers, ("Content-Length", str(len(answer.body) + 7))]
    yield wire(replace(answer, headers=longer), has_body=asked.method != "HEAD")


SHA256_DIGITS = 64


def flipped(asked: Asked, forward: Forward) -> Answered:
    """A bit of the bytes that are sent, or else of those that come back, is another one.

    Of a listing it is one of its markup: nobody can tell a name from another. A body whose hash is
    signed arrives as it was sent, or not at all: stores look, only moto does not.
    """
    if asked.body and len(asked.header("x-amz-content-sha256") or "") != SHA256_DIGITS:
        return forward(replace(asked, body=_flip(asked.body, len(asked.body) // 2)))
    answer = forward(asked)
    return replace(answer, body=_flip(answer.body, len(answer.body) // 2 if asked.key else 0))


def _flip(body: bytes, at: int) -> bytes:
    return body[:at] + bytes([body[at] ^ 4]) + body[at + 1 :] if body else body


def trickle(asked: Asked, forward: Forward) -> Iterator[bytes]:
    """The answer comes, but so slowly that nobody lives to see it."""
    sent = wire(forward(asked), has_body=asked.method != "HEAD")
    until = time.monotonic() + LONG
    for at in range(len(sent)):
        if time.monotonic() > until:
            return
        yield sent[at : at + 1]
        time.sleep(0.2)


FAULTS: Mapping[str, Rule] = MappingProxyType(
    {
        "reset before it arrives": reset_before,
        "answer lost": answer_lost,
        "silence": hang,
        "silence when done": hang_when_done,
        "500": told(500, "InternalError"),
        "503": told(503, "SlowDown"),
        "429": told(429, "TooManyRequests"),
        "403 expired": told(403, "ExpiredToken"),
        "409": told(409, "OperationAborted"),
        "412": told(412, "PreconditionFailed"),
        "400 clock": told(400, "RequestTimeTooSkewed"),
        "truncated": truncated,
        "wrong length": too_long,
        "flipped bit": flipped,
        "1 byte a while": trickle,
    }
)
