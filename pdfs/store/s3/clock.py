"""The store's clock, as its answers show it."""

import time
from email.utils import parsedate_to_datetime
from threading import Lock


def uptime() -> float:
    """Seconds since this machine started; goes on while it is suspended, never jumps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def parse_date(header: str) -> float | None:
    """Seconds since 1970 of an HTTP date; None if it is not one."""
    try:
        return parsedate_to_datetime(header).timestamp()
    except (TypeError, ValueError):
        return None


class StoreClock:
    """Knows the store's time from the `Date` of its newest answer.

    It runs behind the store's by the answer's way to us and the fraction of a second that `Date`
    drops: what is valid until a time by this clock is not valid longer by the store's.
    """

    def __init__(self) -> None:
        self._guard = Lock()
        self._seen: tuple[float, float] | None = None
        """The store's date, and our uptime when it arrived."""

    @property
    def is_set(self) -> bool:
        """Whether the store has answered yet."""
        return self._seen is not None

    def observe(self, date: float) -> None:
        with self._guard:
            self._seen = (date, uptime())

    def now(self) -> float:
        return self.at(uptime())

    def at(self, moment: float) -> float:
        """The store's time when our `uptime()` was `moment`; only if `is_set`."""
        with self._guard:
            if self._seen is None:
                raise RuntimeError("the store's time is not known yet")
            return self._seen[0] + moment - self._seen[1]
