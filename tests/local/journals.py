"""Journals for tests: how they are made, and what comes out of them again."""

import os
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pdfs.core.ids import RunId, SessionId
from pdfs.disk import Disk, OsDisk
from pdfs.local.journal import Journal
from pdfs.local.journal_end import End
from pdfs.local.journal_format import Header
from pdfs.local.journal_loader import load

SESSION = SessionId("5e55105e55105e55105e55105e551000")
RUN = RunId("00000000000040008000000000000001")
HEADER = Header(
    session=SESSION,
    run=RUN,
    project="Kraftwerk_1234567",
    stage="planning",
    user="anna",
    machine="ws7",
    base={"generation": 41, "tree": "000000000007-abc"},
)
Written = tuple[int, bytes, bytes]
"""Kind, body and data of a record."""


@contextmanager
def directory_of(path: Path) -> Iterator[int]:
    """A descriptor of a directory."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def some_records(count: int, seed: int, largest: int = 700) -> list[Written]:
    """Records of random kinds and sizes; some have no data, one in twenty no body either."""
    choice = random.Random(seed)
    return [
        (
            choice.randrange(1, 255),
            choice.randbytes(choice.choice([0, *[choice.randrange(60)] * 19])),
            choice.randbytes(choice.choice([0, choice.randrange(largest), largest])),
        )
        for _ in range(count)
    ]


@dataclass(frozen=True, slots=True)
class Replayed:
    """All that a journal yields."""

    records: list[Written]
    sequences: list[int]
    end: End
    highest_segment: int


def replay(path: Path, *, after: int = 0, through: int = 0, disk: Disk | None = None) -> Replayed:
    """Load the journal in that directory, with the data of its records."""
    records, sequences = [], []
    with directory_of(path) as directory:
        loaded = load(disk or OsDisk(), directory, session=SESSION, after=after, through=through)
        files: dict[int, bytes] = {}
        for record in loaded.records():
            if record.segment not in files:
                files[record.segment] = next(
                    path.glob(f"journal-{record.segment}.wal*")
                ).read_bytes()
            start, stop = record.data_offset, record.data_offset + record.data_size
            data = files[record.segment][start:stop]
            records.append((record.kind, record.body, data))
            sequences.append(record.sequence)
        return Replayed(records, sequences, loaded.end, loaded.highest_segment)


def append_all(journal: Journal, records: Sequence[Written]) -> None:
    for kind, body, data in records:
        journal.append(kind, body, data)
