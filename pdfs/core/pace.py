"""How long a phase will take still, judged by what it did over the last while.

A number only where there is something to judge by: not in the first seconds of a phase, and not
once nothing has moved for a while. The time is that of the phase under way; what comes after it is
not in it.
"""

from dataclasses import dataclass
from typing import Final

from pdfs.core.progress import Phase, Progress

WINDOW: Final = 30.0
"""Seconds that are looked back: long enough for one part of a big file on a slow link."""
SHORTEST: Final = 3.0
"""Seconds of a phase below which nothing is said: the first files tell little of the others."""
STALLED: Final = 10.0
"""Seconds without any movement from which it is unknown when it will end."""
_APART: Final = 1.0
"""Seconds between two looks that are kept."""


@dataclass(frozen=True, slots=True)
class _Look:
    at: float
    files: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Pace:
    """The looks of the last while at one phase, oldest first."""

    looks: tuple[_Look, ...] = ()
    moved: float = 0.0
    """When files or bytes were last seen to be more than before."""

    def seen(self, now: float, progress: Progress) -> "Pace":
        """With one more look, at `now` in seconds of any clock that runs evenly."""
        look = _Look(now, progress.files, progress.bytes)
        if not self.looks or look.files < self.looks[-1].files:
            return Pace((look,), now)
        last = self.looks[-1]
        has_moved = (look.files, look.bytes) != (last.files, last.bytes)
        kept = tuple(each for each in self.looks if each.at >= now - WINDOW) or (last,)
        is_new = has_moved and now - last.at >= _APART
        return Pace((*kept, look) if is_new else kept, now if has_moved else self.moved)

    def seconds_left(self, now: float, progress: Progress) -> float | None:
        """Seconds until this phase is over if it goes on as it went; None where that is unknown."""
        if progress.phase is Phase.WAIT or not self.looks or now - self.moved > STALLED:
            return None
        first = self.looks[0]
        took = now - first.at
        files_left = max(0, progress.of_files - progress.files)
        if took < SHORTEST or not (progress.left or files_left):
            return None  # what ends a phase, the root and its verification, is not counted
        by_bytes = _rest(progress.left, progress.bytes - first.bytes, took)
        by_files = _rest(files_left, progress.files - first.files, took)
        if progress.left:
            return by_bytes if by_files is None or by_bytes is None else max(by_bytes, by_files)
        return by_files


def _rest(left: int, moved: int, took: float) -> float | None:
    if left == 0:
        return 0.0
    return left * took / moved if moved > 0 else None
