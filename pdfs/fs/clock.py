"""The times that requests are stamped with."""

import time
from collections.abc import Callable
from typing import Final

TICK: Final = 10_000_000
"""ns: no coarse clock of Linux lags its fine one by more (CONFIG_HZ is 100 or above)."""

_CLOCK_REALTIME_COARSE: Final = 5  # of Linux; the module `time` does not name it
_EARLIEST: Final = -(1 << 63)
_LATEST: Final = (1 << 63) - 1


def coarse_now() -> int:
    """ns since 1970 by the clock that Linux stamps files with: it moves once in 1 to 10 ms."""
    return time.clock_gettime_ns(_CLOCK_REALTIME_COARSE)


class Clock:
    """A coarse clock that never stamps a change before one that came just ahead of it.

    Coarse (`coarse_now`), as each new mtime lets the kernel drop the cached pages of a file. But
    “now” in utimensat(2) reaches a file system as a time of the kernel's fine clock; a file made
    right after such a `touch` must not look older than what was touched.
    """

    def __init__(self, now_ns: Callable[[], int]) -> None:
        self._now_ns = now_ns
        self._seen = 0

    def now(self) -> int:
        """ns since 1970."""
        now = self._now_ns()
        return self._seen if now < self._seen < now + TICK else now

    def taken(self, time: int) -> int:
        """A time that a process sets, as it can be kept: in the 64 bits that readers expect."""
        if 0 < time - self._now_ns() < TICK:
            self._seen = max(self._seen, time)
        return min(max(time, _EARLIEST), _LATEST)
