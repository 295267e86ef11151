"""Publishing while the stage stays mounted: when somebody asks, and every so often.

One publish at a time. Who asks while one is under way waits for the next, which has what was
written before he asked; all who ask meanwhile share that one.
"""

import logging
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import trio

from pdfs.errors import PdfsError
from pdfs.mount.control import Result

logger = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class _Turn:
    """One publish, from the first who asks for it to its end."""

    asked: trio.Event = field(default_factory=trio.Event)
    over: trio.Event = field(default_factory=trio.Event)
    result: Result | None = None
    error: PdfsError | None = None


class Publisher:
    """Publishes one mounted stage; `run` it as long as that is mounted."""

    def __init__(
        self,
        publish: Callable[[], Awaitable[Result]],
        *,
        every: float,
        has_work: Callable[[], bool],
    ) -> None:
        """`every`: seconds between two publishes that nobody asked for; 0 = none. `has_work` says
        whether there is anything for such a one."""
        self._publish = publish
        self._every = every or math.inf
        self._has_work = has_work
        self._next = _Turn()
        self._told = ""

    async def run(self) -> None:
        """Publish until cancelled: who waits then, or asks later, is told nothing by us."""
        try:
            while True:
                with trio.move_on_after(self._every):
                    await self._next.asked.wait()
                if self._next.asked.is_set() or self._has_work():
                    turn, self._next = self._next, _Turn()
                    await self._take(turn)
        finally:
            self._next.over.set()

    async def published(self) -> Result | None:
        """What came of the first publish that began after this call, or raises its error.

        None where the mount ended before: then the end publishes.
        """
        turn = self._next
        turn.asked.set()
        await turn.over.wait()
        if turn.error is not None:
            raise turn.error
        return turn.result

    async def _take(self, turn: _Turn) -> None:
        try:
            turn.result = await self._publish()
            self._told = ""
        except PdfsError as error:
            turn.error = error
            if not turn.asked.is_set() and str(error) != self._told:
                self._told = str(error)
                logger.error("what was to be published by itself was not: %s", error)
        finally:
            turn.over.set()
