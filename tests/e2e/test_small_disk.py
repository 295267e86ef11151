"""A disk that is really full, below state and cache (H1): what was acknowledged stays, and life
goes on. What is on it is compared with what this process knows, outside of the mount."""

import errno
import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.e2e.conftest import MakeMachine
from tests.e2e.machines import PROJECT, Bucket, Machine
from tests.e2e.small_disk import small_disk

MIB = 1 << 20
PIECE = 64 << 10
BALLAST = 34 * MIB
"""Of somebody else's on that disk: so what is written can be copied once that has gone."""
FEWEST = 8
"""So many files must have been written before the disk is full, or nothing was tried."""


@pytest.fixture
def disk(tmp_path: Path, record_property: Callable[[str, object], None]) -> Iterator[Path]:
    with small_disk(tmp_path / "disk") as kind:
        record_property("small disk", kind)
        yield tmp_path / "disk"


@pytest.fixture
def here(bucket: Bucket, machine: MakeMachine, disk: Path) -> Machine:
    """A machine whose state and cache are on that disk."""
    places = {f"XDG_{name}_HOME": str(disk / name.lower()) for name in ("STATE", "CACHE")}
    return machine(bucket, extra=places)


@dataclass(slots=True)
class Writer:
    """Writes files until the disk is full, and knows what was acknowledged."""

    mounted: Path
    rng: random.Random
    kept: dict[str, bytes] = field(default_factory=dict)
    """What was synced and closed."""
    taken: int = 0
    """Bytes of all writes that returned."""
    _number: int = 0

    def fill(self) -> int:
        """Write file after file; returns how many bytes were taken before ENOSPC."""
        before = self.taken
        while self._write_one():
            pass
        return self.taken - before

    def _write_one(self) -> bool:
        self._number += 1
        name, data = f"file-{self._number:03}", self.rng.randbytes(self.rng.randrange(200_000, MIB))
        try:
            with opened(self.mounted / name) as descriptor:
                for start in range(0, len(data), PIECE):
                    self.taken += os.write(descriptor, data[start : start + PIECE])
                os.fsync(descriptor)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            return False
        self.kept[name] = data
        return True

    def remove_first(self, count: int) -> None:
        for name in sorted(self.kept)[:count]:
            (self.mounted / name).unlink()
            del self.kept[name]

    def check(self, directory: Path) -> None:
        """All that was acknowledged is there."""
        for name, data in self.kept.items():
            assert (directory / name).read_bytes() == data, name


@contextmanager
def opened(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def said_free(mounted: Path) -> int:
    room = os.statvfs(mounted)
    return room.f_bavail * room.f_frsize


@pytest.mark.figure(name="H1")
def test_a_full_disk_refuses_writes_and_nothing_else_and_goes_on_when_there_is_room(
    here: Machine, bucket: Bucket, disk: Path, seed: int
) -> None:
    mounted = here.mount("--create")
    writer = Writer(mounted, random.Random(seed))
    promised = said_free(mounted)
    taken = writer.fill()
    assert len(writer.kept) >= FEWEST
    assert 0.8 * taken < promised <= taken, "df is not what could be written"
    assert said_free(mounted) < MIB
    writer.check(mounted)

    (mounted / "file-002").rename(mounted / "renamed")
    writer.kept["renamed"] = writer.kept.pop("file-002")
    writer.remove_first(len(writer.kept) // 2)
    assert writer.fill() > taken // 4, "what was deleted made no room"
    writer.check(mounted)

    here.pdfs("umount", mounted)
    assert bucket.directory is not None
    writer.check(bucket.directory / PROJECT / "planning")


@pytest.mark.figure(name="H1")
def test_a_session_that_crashed_on_a_full_disk_loses_nothing(
    here: Machine, bucket: Bucket, disk: Path, seed: int
) -> None:
    mounted = here.mount("--create")
    ballast = disk / "ballast"
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, BALLAST)
    writer = Writer(mounted, random.Random(seed))
    writer.fill()
    assert len(writer.kept) >= FEWEST
    here.kill()

    # Recovery copies what counts: it does so, or says that it needs room, and changes nothing.
    ended = here.run("mount", PROJECT, mounted)
    assert ended.code in (0, 8), ended
    if ended.code == 8:
        assert "free some space" in ended.err
        here.pdfs("recover", "rescue", PROJECT, here.home / "rescued")
        writer.check(here.home / "rescued")
        ballast.unlink()
        here.mount()
    writer.check(mounted)
    (mounted / "after").write_bytes(bytes(MIB))
    here.pdfs("umount", mounted)
    assert bucket.directory is not None
    writer.check(bucket.directory / PROJECT / "planning")
