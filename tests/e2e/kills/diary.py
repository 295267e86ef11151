"""What a program was told by the system calls that it made in a mount, kept outside of it.

A line is synced before each operation begins and after it returned, so that after a kill it is
known of each whether it was acknowledged, in flight, or not begun. An operation is a method of
`tests.fs.model.Model` and its arguments; bytes to write are told by a name and a size.
"""

import json
import os
import random
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Bytes:
    """Any bytes, of which the name tells all."""

    name: str
    size: int

    def __bytes__(self) -> bytes:
        return random.Random(self.name).randbytes(self.size)


@dataclass(frozen=True, slots=True)
class Operation:
    """One system call, or another thing that is whole or absent."""

    number: int
    name: str
    arguments: tuple[Any, ...]


class Diary:
    """Takes down operations; safe for threads."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
        self._lock = threading.Lock()
        self._count = 0

    def begin(self, name: str, *arguments: object) -> int:
        """An operation begins when this has returned; its number."""
        with self._lock:
            self._count += 1
            number = self._count
        self._write([number, name, [_told(each) for each in arguments]])
        return number

    def end(self, number: int) -> None:
        """The operation has returned, with success."""
        self._write([number])

    @contextmanager
    def noted(self, name: str, *arguments: object) -> Iterator[None]:
        """The block is an operation; one that raises is for ever in flight."""
        number = self.begin(name, *arguments)
        yield
        self.end(number)

    def _write(self, line: object) -> None:
        raw = json.dumps(line).encode() + b"\n"
        assert os.write(self._descriptor, raw) == len(raw)
        os.fdatasync(self._descriptor)


@dataclass(slots=True)
class Told:
    """What a diary says."""

    acknowledged: list[Operation] = field(default_factory=list)
    """In the order in which they ended."""
    in_flight: list[Operation] = field(default_factory=list)
    """In the order in which they began."""


def read_diary(path: Path) -> Told:
    """A diary whose writer is gone."""
    begun: dict[int, Operation] = {}
    told = Told()
    for line in path.read_bytes().splitlines(keepends=True):
        if not line.endswith(b"\n"):
            break  # its operation has not begun, or is not known to have ended
        number, *begins = json.loads(line)
        if begins:
            name, arguments = begins
            begun[number] = Operation(number, name, tuple(map(_meant, arguments)))
        else:
            told.acknowledged.append(begun.pop(number))
    told.in_flight += begun.values()
    return told


def _told(argument: object) -> object:
    match argument:
        case Bytes(name, size):
            return {"bytes": name, "size": size}
        case _:
            return argument


def _meant(argument: object) -> object:
    match argument:
        case {"bytes": name, "size": size}:
            return Bytes(str(name), int(str(size)))
        case _:
            return argument


def names(operations: Sequence[Operation]) -> str:
    """For an error message."""
    return ", ".join(f"{each.number} {each.name}{each.arguments}" for each in operations)
