"""How the daemon is told to stop: by signals, and how long it may publish then.

    first signal ──▶ an unmount; before there is a mount: the break-off at once
          │           after it: nothing, for it is being published
          └── a second signal, or `limit` s later ──▶ the break-off

Who logs out or shuts down often sends two signals in one breath (SIGTERM and SIGHUP, or SIGHUP by
shell and kernel): such are one. A wait that a person chose, as by `pdfs umount`, has no limit; a
signal ends it.
"""

import math
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

import trio

from pdfs.core.notes import Asked, Note
from pdfs.core.states import State
from pdfs.stage.together import background

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
ONE_BREATH: Final = 1.0
"""Seconds after the first signal in which others mean the same."""

_HAS_YET_TO_SERVE: Final = (State.IDLE, State.ACQUIRING, State.DOWNLOADING, State.RESTORING)


class Stopping:
    """The signals of one session; `heard` is open as long as it runs."""

    def __init__(
        self,
        limit: float,
        *,
        state: Callable[[], State],
        is_mounted: Callable[[], bool],
        cut_off: Callable[[], Awaitable[None]],
        note: Callable[[Note], None],
    ) -> None:
        """`limit`: seconds from the first signal to the break-off, 0 = none. `cut_off` unmounts."""
        self._limit = limit or math.inf
        self._state = state
        self._is_mounted = is_mounted
        self._cut_off = cut_off
        self._note = note
        self._first = -math.inf
        self._name = ""
        self.scope = trio.CancelScope()
        """Ends the session where it stands; what is journaled stays."""
        self.why = ""
        """Why it was broken off, as the end of a sentence; empty while it wasn't."""

    @asynccontextmanager
    async def heard(self) -> AsyncIterator[None]:
        """Obey signals while the body runs: none that comes in it ends the process."""
        with trio.open_signal_receiver(*SIGNALS) as signals:
            async with background(partial(self._obey, signals)):
                yield

    async def _obey(self, signals: AsyncIterator[int]) -> None:
        async with trio.open_nursery() as nursery:
            async for number in signals:
                name = signal.Signals(number).name
                self._note(Asked(what=name))
                if not self._name:
                    self._name, self._first = name, trio.current_time()
                    self._stop(nursery)
                elif trio.current_time() - self._first >= ONE_BREATH:
                    self._break_off(f"by a second signal, {name}")

    def _stop(self, nursery: trio.Nursery) -> None:
        nursery.start_soon(self._limit_time)
        if self._is_mounted():
            nursery.start_soon(self._cut_off)
        elif self._state() in _HAS_YET_TO_SERVE:
            self._break_off(f"by {self._name}, before it was mounted")

    async def _limit_time(self) -> None:
        await trio.sleep(self._limit)
        self._break_off(f"{self._limit:g} s after {self._name}, as stop_timeout says")

    def _break_off(self, why: str) -> None:
        self.why = self.why or why
        self.scope.cancel()
