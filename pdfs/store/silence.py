"""How long a bucket has been silent, for people who wait for it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import trio

from pdfs.errors import StoreUnavailable

LONG = 6.0
"""Seconds of silence after which people are told whom they wait for; connecting gives up after 5,
so that there is an error to tell."""


@dataclass(slots=True)
class Silence:
    """Knows since when nothing was answered. All calls belong on one thread."""

    trouble: str = ""
    """Why the last request was not answered; empty while the first one waits."""
    _since: float | None = None
    """None while nothing is asked, or the last that was asked was answered."""

    @contextmanager
    def asking(self) -> Iterator[None]:
        """The block is one request; a refusal is an answer, and who gives up waits no more."""
        if self._since is None:
            self._since = trio.current_time()
        is_silent = False
        try:
            yield
        except StoreUnavailable as error:
            is_silent, self.trouble = True, str(error)
            raise
        finally:
            if not is_silent:
                self.trouble, self._since = "", None

    async def tell(self, say: Callable[[str], None]) -> None:
        """Call `say` with the trouble, once, when the bucket has been silent for long."""
        while True:
            waited = 0.0 if self._since is None else trio.current_time() - self._since
            if waited >= LONG:
                break
            await trio.sleep(LONG - waited)
        say(self.trouble)
