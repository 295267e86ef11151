"""After a suspend, the lock is looked at before anything is uploaded.

A machine that slept may have lost its stage, and nothing told it: the clock that renewals wait by
stood still meanwhile. Two clocks tell that it slept, one that stands still while it is suspended
and one that goes on. The data is safe without this, by compare-and-swap of the root: it spares
uploads that nobody will publish, and tells the user soon that he edits what is another's.
"""

from collections.abc import Awaitable, Callable

import trio

_NOTICED = 1.0
"""Seconds: two clocks are never read at the same instant."""


def never() -> float:
    """For who is not told when his machine is suspended."""
    return 0.0


async def _no_look() -> None:
    await trio.lowlevel.checkpoint()


class Wake:
    """Whether this machine was suspended since the lock was last looked at."""

    def __init__(self, suspended: Callable[[], float] = never) -> None:
        """`suspended` is for how many seconds the machine has been, since it started."""
        self.suspended = suspended
        self.look: Callable[[], Awaitable[object]] = _no_look
        """Looks at the lock, and calls `looked`; set by who holds the stage."""
        self._seen = suspended()
        self._turn = trio.Lock()

    @property
    def is_due(self) -> bool:
        """Whether the lock has to be looked at first."""
        return self.suspended() - self._seen > _NOTICED

    def looked(self, suspended: float) -> None:
        """The lock was looked at; `suspended` was read before that."""
        self._seen = max(self._seen, suspended)

    async def heed(self) -> None:
        """Return when nothing speaks against an upload; who comes meanwhile waits for one look.

        Raises what the look raises: LockLost, StoreError. It is then still due.
        """
        if not self.is_due:
            return
        async with self._turn:
            if self.is_due:
                await self.look()
