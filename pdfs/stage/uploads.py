"""Counting what is on its way: written by the steps that move bytes, read by whoever shows it.

A step that fails and begins again begins its count again, so that nothing is counted twice.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from pdfs.core.ids import Path
from pdfs.core.pace import Pace
from pdfs.core.progress import Phase, Progress
from pdfs.errors import StoreError


@dataclass(slots=True, eq=False)
class _Item:
    path: Path
    size: int
    sent: int = 0

    def add(self, count: int) -> None:
        self.sent = min(self.size, self.sent + count)


@dataclass(slots=True)
class Uploads:
    """How far one session is. All calls belong on one thread."""

    _done: Progress | None = None
    """What is finished of the phase; None before the first one."""
    _going: list[_Item] = field(default_factory=list)
    _last: StoreError | None = None
    _pace: Pace = field(default_factory=Pace)
    _seconds_left: int | None = None

    @property
    def progress(self) -> Progress | None:
        """As of now, with what is under way; None where nothing was ever moved."""
        if self._done is None:
            return None
        moved = self._done.bytes + sum(item.sent for item in self._going)
        path = self._going[-1].path if self._going else Path("")
        return replace(
            self._done,
            bytes=min(moved, self._done.of_bytes),
            path=path,
            seconds_left=self._seconds_left,
        )

    def look(self, now: float) -> None:
        """Judge anew how long the phase will take: to be called every second or so."""
        progress = self.progress
        if progress is not None:
            self._pace = self._pace.seen(now, progress)
            left = self._pace.seconds_left(now, progress)
            self._seconds_left = None if left is None else round(left)

    @property
    def unresolved(self) -> StoreError | None:
        """The newest error after which nothing has succeeded yet; None where there is none."""
        return self._last if self._done is not None and self._done.trouble else None

    def begin(self, phase: Phase, *, files: int, size: int, is_first: bool = False) -> None:
        """A phase begins, or begins again: so many files, so many bytes in all.

        With `is_first`, what failed before counts no more.
        """
        known = None if is_first else self._done
        before = known or Progress(phase=phase)
        self._going.clear()
        self._pace, self._seconds_left = Pace(), None
        self._done = Progress(
            phase=phase,
            of_files=files,
            of_bytes=size,
            retries=before.retries,
            trouble=before.trouble,
        )

    @contextmanager
    def item(self, path: Path, size: int, *, files: int = 1) -> Iterator[Callable[[int], None]]:
        """Files that are moved together; yields what is to be told of each piece that arrived.

        They count as done where the block ends without an error.
        """
        item = _Item(path, size)
        self._going.append(item)
        try:
            yield item.add
            self._finish(item, files)
        finally:
            if item in self._going:
                self._going.remove(item)

    def _finish(self, item: _Item, files: int) -> None:
        if self._done is not None and item in self._going:
            done = self._done
            self._done = replace(
                done,
                files=min(done.files + files, done.of_files),
                bytes=min(done.bytes + item.size, done.of_bytes),
                trouble="",
            )

    def failed(self, error: StoreError) -> None:
        """A request was refused or not answered; it is tried again."""
        if self._done is not None and error is not self._last:
            self._last = error
            self._done = replace(self._done, retries=self._done.retries + 1, trouble=error.what)
