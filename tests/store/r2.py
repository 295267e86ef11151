"""Cloudflare R2, as its manual and its users tell of it: a relay before moto's server.

What it does otherwise than AWS, and PDFS has to live with:

- a DELETE takes no condition, and a part that is copied none on its source: they are not looked at;
- all parts of an upload but the last have one size, else its completion is refused;
- more than one write a second to one key is refused with 429, also one that then had lost.

What it has and moto has not, is judged here: conditions of a completion, in the instant of the
write, and the time for which a URL is signed.
"""

import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from re import findall
from xml.etree import ElementTree as ET

from tests.store.relay import Answered, Asked, Forward, Relay, refusal, relayed
from tests.store.servers import Server

INTERVAL = 1.0
"""Seconds between two writes to one key."""

TOO_OFTEN = refusal(
    429, "ServiceUnavailable", "Reduce your concurrent request rate for the same object."
)
UNEQUAL = refusal(400, "InvalidPart", "All non-trailing parts must have the same length.")
EXPIRED = refusal(403, "AccessDenied", "Request has expired")
NOT_SO = refusal(412, "PreconditionFailed", "At least one of the preconditions did not hold.")
ABSENT = refusal(404, "NoSuchKey", "The specified key does not exist.")


@dataclass(slots=True)
class R2:
    """The rule of the relay."""

    interval: float = INTERVAL
    """0: as often as one likes."""
    refused: int = 0
    """How many writes came too early."""
    _turn: threading.Lock = field(default_factory=threading.Lock)
    _keys: defaultdict[str, threading.Lock] = field(
        default_factory=lambda: defaultdict(threading.Lock)
    )
    _written: dict[str, float] = field(default_factory=dict)
    _parts: defaultdict[str, dict[int, int]] = field(default_factory=lambda: defaultdict(dict))

    def __call__(self, asked: Asked, forward: Forward) -> Answered:
        if asked.method == "PUT" and "partNumber" in asked.query:
            return self._take_part(asked, forward)
        if not asked.is_write:
            return forward(asked)
        if self._is_too_early(asked.key):
            return TOO_OFTEN
        if _is_expired(asked):
            return EXPIRED
        if asked.method == "DELETE":
            return forward(asked.without("if-match", "if-none-match"))
        with self._turn:
            turn = self._keys[asked.key]
        with turn:
            return self._complete(asked, forward) if asked.method == "POST" else forward(asked)

    def _is_too_early(self, key: str) -> bool:
        with self._turn:
            now = time.monotonic()
            if now < self._written.get(key, -self.interval) + self.interval:
                self.refused += 1
                return True
            self._written[key] = now
            return False

    def _take_part(self, asked: Asked, forward: Forward) -> Answered:
        names = [name.lower() for name, _ in asked.headers]
        conditions = [name for name in names if name.startswith("x-amz-copy-source-if")]
        answer = forward(asked.without(*conditions))
        if answer.status == 200:
            span = asked.header("x-amz-copy-source-range")
            size = len(asked.body)
            if span is not None:
                first, last = (int(each) for each in findall(r"\d+", span))
                size = last - first + 1
            self._parts[asked.query["uploadId"]][int(asked.query["partNumber"])] = size
        return answer

    def _complete(self, asked: Asked, forward: Forward) -> Answered:
        sent = self._parts[asked.query["uploadId"]]
        numbers = [
            int(each.text or "0")
            for each in ET.fromstring(asked.body).iter()
            if each.tag.endswith("PartNumber")
        ]
        sizes = [sent[number] for number in sorted(numbers) if number in sent]
        if len(set(sizes[:-1])) > 1 or (len(sizes) > 1 and sizes[-1] > sizes[0]):
            return UNEQUAL
        return self._why_not(asked, forward) or forward(asked)

    def _why_not(self, asked: Asked, forward: Forward) -> Answered | None:
        """The refusal of a completion whose condition does not hold."""
        wanted = asked.header("if-match")
        if wanted is None and asked.header("if-none-match") is None:
            return None
        path = asked.target.partition("?")[0]
        look = replace(asked, method="HEAD", target=path, body=b"")
        found = forward(look.without("content-length", "if-match", "if-none-match"))
        if wanted is None:
            return None if found.status == 404 else NOT_SO
        if found.status == 404:
            return ABSENT
        return None if found.header("etag") == wanted else NOT_SO


def _is_expired(asked: Asked) -> bool:
    query = asked.query
    if "X-Amz-Expires" not in query:
        return False
    signed = datetime.strptime(query["X-Amz-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    return time.time() > signed.timestamp() + float(query["X-Amz-Expires"])


@contextmanager
def r2_of(moto: Server, *, interval: float = INTERVAL) -> Iterator[Relay]:
    """R2, as far as PDFS can tell, with a bucket that is moto's."""
    with relayed(moto, R2(interval=interval), kind="r2") as relay:
        yield relay
