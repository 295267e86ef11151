"""A session's worth of journal calls, and what their caller was promised at each moment."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from pdfs.errors import DiskError, DiskFull, JournalFailed
from pdfs.local.journal import Journal
from pdfs.local.sizes import ALONE, JournalSizes
from tests.local.crashing_disk import CrashingDisk
from tests.local.journals import HEADER, Written, directory_of, some_records

R = TypeVar("R")

STEPS = (
    *("append", "append", "append", "sync", "append", "append", "big", "roll", "append", "append"),
    *("sync", "seal", "append", "prepare", "append", "roll", "append", "append", "sync", "append"),
    *("roll", "append", "group", "append", "big", "sync", "append", "close"),
)
"""Ends with a record that only `close` syncs; rolls come with and without `prepare`."""

SMALL = JournalSizes(segment=8192, growth=1024, reserve=512, often=3)
"""So small that a few records fill a segment."""


def random_steps(seed: int, count: int = 30) -> tuple[str, ...]:
    """A session like `STEPS`, most of it appends."""
    kinds = ["append"] * 10 + ["big", "sync", "group", "group", "roll", "roll", "prepare", "seal"]
    choice = random.Random(seed)
    return (*(choice.choice(kinds) for _ in range(count)), "close")


@dataclass(slots=True)
class Witness:
    """Outside the journal: what was acknowledged."""

    disk: CrashingDisk
    acknowledged: list[Written] = field(default_factory=list)
    promises: list[tuple[int, int]] = field(default_factory=list)
    """(events on the disk, last record that was synced by then)."""
    told: list[tuple[str, DiskError]] = field(default_factory=list)
    """Each call that failed."""
    is_closed: bool = False

    def run(
        self,
        root: Path,
        steps: Sequence[str] = STEPS,
        seed: int = 0,
        *,
        segment: int = 1,
        first_sequence: int = 1,
        sizes: JournalSizes = ALONE,
    ) -> None:
        """Make the calls; whoever makes them goes on after each error."""
        small, big = iter(some_records(99, seed, 300)), iter(some_records(9, seed + 1, 9000))
        with directory_of(root) as directory:
            journal = self._try(
                "create",
                lambda: Journal.create(
                    self.disk,
                    directory,
                    HEADER,
                    segment=segment,
                    first_sequence=first_sequence,
                    sizes=sizes,
                ),
            )
            if journal is None:
                return
            for step in steps:
                match step:
                    case "append":
                        self._append(journal, next(small))
                    case "big":
                        self._append(journal, next(big))
                    case "group":
                        self._sync_beside_appends(journal, next(small), next(small))
                    case _:
                        self._try(step, getattr(journal, step))
                self.promises.append((len(self.disk.log), journal.synced_sequence))
            self.is_closed = not self.told
            journal.abandon()

    def _append(self, journal: Journal, record: Written) -> None:
        if self._try("append", lambda: journal.append(*record)) is not None:
            self.acknowledged.append(record)

    def _sync_beside_appends(self, journal: Journal, first: Written, second: Written) -> None:
        """As the ledger does it: requests go on while a thread syncs."""
        point = self._try("sync", journal.sync_point)
        self._append(journal, first)
        if point is None:
            return
        try:
            point.run()
        except OSError as error:
            self.told.append(("sync", journal.mark_failed(point, error)))
        else:
            self._append(journal, second)
            journal.mark_synced(point)

    def _try(self, step: str, call: Callable[[], R]) -> R | None:
        try:
            return call()
        except (DiskFull, JournalFailed) as error:
            self.told.append((step, error))
            return None

    def promised(self, events: int) -> int:
        """The last record that was called synced when so many things had happened on the disk."""
        return max((synced for when, synced in self.promises if when <= events), default=0)
