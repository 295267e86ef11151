"""What a tree has to be after a kill, by model and diary; one operation may be either way."""

import copy
import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from tests.e2e.kills.diary import Bytes, Operation, Told, names
from tests.fs.model import Model, Thing

PAGE = 4096
REQUEST = 1 << 20


def request_ends(offset: int, size: int) -> list[int]:
    """How much of a write there may be when the daemon died between two of its requests.

    The kernel sends 256 pages at most in one; and what is before the first edge of a page by
    itself, where it does not have that page.
    """
    begin, edge = offset // PAGE * PAGE, -(-offset // PAGE) * PAGE
    ends = {edge, *range(begin + REQUEST, offset + size, REQUEST)}
    ends |= {*range(edge + REQUEST, offset + size, REQUEST)}
    return sorted(end - offset for end in ends if offset < end < offset + size)


class ExpectedTree:
    """A directory that one thread changes."""

    def __init__(self, ignored: str = "") -> None:
        """`ignored` is a name in the directory that somebody else answers for."""
        self._model = Model()
        self._ignored = ignored

    def check(self, top: Path, told: Told) -> None:
        """The directory is what the diary says; what is found becomes what is expected."""
        for operation in told.acknowledged:
            self.note(operation)
        assert len(told.in_flight) <= 1, names(told.in_flight)
        found = self._found(top)
        wrong: list[str] = []
        for possible in outcomes(self._model, told.in_flight):
            wrong = list(differences(possible, found))
            if not wrong:
                self._model = possible
                self._model.crash()
                return
        raise AssertionError("\n".join([f"in flight: {names(told.in_flight)}", *wrong]))

    def note(self, operation: Operation) -> None:
        """It was acknowledged."""
        carry_out(self._model, operation)

    def contents(self) -> dict[str, bytes]:
        """Path and bytes of each file."""
        things = self._model.walk()
        return {path: bytes(thing.content) for path, thing in things if stat.S_ISREG(thing.type)}

    def _found(self, top: Path) -> dict[str, Path]:
        paths = {str(path.relative_to(top)): path for path in top.rglob("*")}
        mine = f"{self._ignored}/"
        return {
            name: path
            for name, path in paths.items()
            if not (self._ignored and f"{name}/".startswith(mine))
        }


def carry_out(model: Model, operation: Operation) -> None:
    """What an operation does to the model."""
    match operation.name, operation.arguments:
        case (("fsync" | "git"), _):
            pass
        case "append", (handle, Bytes() as data):
            model.pwrite(handle, bytes(data), len(model.descriptors[handle].thing.content))
        case "pwrite", (handle, Bytes() as data, offset):
            model.pwrite(handle, bytes(data), offset)
        case "setxattr", (path, name, value):
            model.setxattr(path, name, value.encode())
        case name, arguments:
            getattr(model, name)(*arguments)


def outcomes(model: Model, in_flight: list[Operation]) -> Iterator[Model]:
    """The operation absent, or there; a long write may be there in part, by whole requests."""
    yield model
    for operation in in_flight:
        yield from _parts(model, operation)
        done = copy.deepcopy(model)
        carry_out(done, operation)
        yield done


def _parts(model: Model, operation: Operation) -> Iterator[Model]:
    match operation.name, operation.arguments:
        case "pwrite", (handle, Bytes() as data, offset):
            pass
        case "append", (handle, Bytes() as data):
            offset = len(model.descriptors[handle].thing.content)
        case _:
            return
    for size in request_ends(offset, data.size):
        part = copy.deepcopy(model)
        part.pwrite(handle, bytes(data)[:size], offset)
        yield part


def differences(model: Model, found: dict[str, Path]) -> Iterator[str]:
    """What of the directory is not as the model has it."""
    expected = dict(model.walk())
    yield from (f"missing: {name}" for name in sorted(expected.keys() - found.keys()))
    yield from (f"invented: {name}" for name in sorted(found.keys() - expected.keys()))
    for name in sorted(expected.keys() & found.keys()):
        seen, wanted = _seen(found[name], expected[name]), _wanted(expected[name])
        if seen != wanted:
            yield f"{name}: {seen}, not {wanted}"


def _wanted(thing: Thing) -> tuple[object, ...]:
    content = hashlib.sha256(thing.content).hexdigest()
    links = thing.links if stat.S_ISREG(thing.type) else 0
    # The model's clock stands still at 0: a time is known where the user has set it.
    return (
        oct(thing.type | thing.mode),
        len(thing.content),
        content,
        links,
        thing.xattrs,
        thing.mtime,
    )


def _seen(path: Path, thing: Thing) -> tuple[object, ...]:
    status = path.lstat()
    is_file = stat.S_ISREG(status.st_mode)
    raw = path.read_bytes() if is_file else b""
    xattrs = {key: os.getxattr(path, key) for key in os.listxattr(path)}
    mtime = status.st_mtime_ns if thing.mtime else 0
    content = hashlib.sha256(raw).hexdigest()
    links = status.st_nlink if is_file else 0
    return (oct(status.st_mode), len(raw), content, links, xattrs, mtime)
