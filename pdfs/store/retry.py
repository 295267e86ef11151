"""Bounded, jittered patience with a store that does not answer.

Only requests that may be carried out twice go through here: reads, and writes whose repetition
changes nothing. A conditional write is repeated by `stage.swap`, which knows what a 412 then means.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar

import trio

from pdfs.core.timing import Timing
from pdfs.errors import PreconditionFailed, StoreUnavailable
from pdfs.store.silence import Silence

MOST_TRIES = 10

T = TypeVar("T")


def _unheard(error: StoreUnavailable) -> None:
    pass


async def _at_once() -> None:
    await trio.lowlevel.checkpoint()


@dataclass(frozen=True, slots=True)
class Patience:
    """How long one request is waited for, and how often and how long it is sent again."""

    timing: Timing
    random: Callable[[], float]
    """Uniform in 0 … 1."""
    on_failure: Callable[[StoreUnavailable], None] = _unheard
    """Hears of each request that is to be sent again, or given up."""
    silence: Silence = field(default_factory=Silence)
    """Knows how long the store has answered nothing."""

    async def ask(
        self,
        attempt: Callable[[], Awaitable[T]],
        *,
        size: int = 0,
        first: Callable[[], Awaitable[None]] = _at_once,
    ) -> T:
        """Await `attempt()` until it answers; sent again for `timing.patience` s and ten tries.

        `size` is how many bytes it carries either way. `first` is awaited before each try, for as
        long as it takes. Raises the last StoreUnavailable; every other error passes through at
        once, and so does what `first` raises.
        """
        deadline = trio.current_time() + self.timing.patience
        number = 0
        while True:
            number += 1
            await first()
            try:
                return await self.once(attempt, size=size)
            except StoreUnavailable as error:
                wait = self.wait_after(number, error)
                if number >= MOST_TRIES or trio.current_time() + wait > deadline:
                    raise
            await trio.sleep(wait)

    async def look(self, attempt: Callable[[], Awaitable[T]], *, size: int = 0) -> T:
        """`ask` for a read that has no condition: to be refused for one is no answer to it."""

        async def answered() -> T:
            try:
                return await attempt()
            except PreconditionFailed as error:
                raise StoreUnavailable(
                    "the bucket says of a read without a condition that it did not hold"
                ) from error

        return await self.ask(answered, size=size)

    async def once(self, attempt: Callable[[], Awaitable[T]], *, size: int = 0) -> T:
        """Await `attempt()` for as long as a link that lives needs; then its outcome is unknown."""
        limit = self.timing.answer_to(size)
        with self.silence.asking():
            with trio.move_on_after(limit):
                return await attempt()
            raise StoreUnavailable(f"the bucket did not answer within {limit:.0f} s")

    def wait_after(self, number: int, error: StoreUnavailable) -> float:
        """Seconds to wait after failed try `number` (from 1): full jitter above a half."""
        self.on_failure(error)
        wait = self.timing.wait_before_try(number) * (0.5 + self.random() / 2)
        return max(wait, error.retry_after or 0.0)
