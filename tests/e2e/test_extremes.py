"""Sizes and times at the edges (H7), and links where none should be (H6)."""

import errno
import gzip
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import MakeMachine
from tests.e2e.machines import PROJECT, Bucket, Machine
from tests.fuse.mounts import refused

GIB = 1 << 30
LARGEST = 160 * GIB
MOST_MEMORY = 200 << 20
SECOND = 1_000_000_000
TIMES = [
    *(-(1 << 31) * SECOND - 1, -1, 0, (1 << 31) * SECOND, (1 << 32) * SECOND + 5),
    *(-(1 << 63), (1 << 63) - 1),
]
"""ns since 1970: 1901, 1969, 1970, 2038, 2106, and the first and last that a mount keeps."""


def memory_of(machine: Machine) -> int:
    """Bytes that the daemon had at most."""
    (session,) = machine.sessions()
    status = Path(f"/proc/{session['pid']}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


@dataclass(frozen=True, slots=True)
class Published:
    """The manifest of a stage, for who would change it as only a broken tool does."""

    file: Path
    document: dict[str, Any]

    def entry(self, path: str) -> dict[str, Any]:
        found: dict[str, Any] = next(e for e in self.document["entries"] if e["path"] == path)
        return found

    def write(self) -> None:
        self.file.write_bytes(gzip.compress(json.dumps(self.document).encode(), mtime=0))


def published(bucket: Bucket) -> Published:
    assert bucket.directory is not None
    trees = (bucket.directory / PROJECT / ".pdfs" / "planning" / "trees").iterdir()
    newest = max(trees, key=lambda file: file.stat().st_mtime_ns)
    return Published(newest, json.loads(gzip.decompress(newest.read_bytes())))


@pytest.mark.figure(name="H7")
def test_times_and_sizes_at_the_edges_are_kept_and_cost_nothing(
    bucket: Bucket, machine: MakeMachine
) -> None:
    here = machine(bucket)
    mounted = here.mount("--create")
    for number, time in enumerate(TIMES):
        (mounted / f"file-{number}").touch()
        os.utime(mounted / f"file-{number}", ns=(time, time))
    with (mounted / "sparse").open("w+b") as file:
        os.truncate(file.fileno(), LARGEST)
        os.pwrite(file.fileno(), b"mid", LARGEST // 2)
        assert os.pread(file.fileno(), 7, LARGEST // 2 - 2) == b"\0\0mid\0\0"
        assert os.pread(file.fileno(), 9, LARGEST - 4) == bytes(4)
        for size in (LARGEST + 1, 1 << 40, (1 << 63) - 1):
            with refused(errno.EFBIG):
                os.truncate(file.fileno(), size)
        with refused(errno.EFBIG):
            os.pwrite(file.fileno(), b"x", LARGEST)
        assert os.fstat(file.fileno()).st_size == LARGEST
    assert memory_of(here) < MOST_MEMORY
    (mounted / "sparse").unlink()
    here.pdfs("umount", mounted)

    found = published(bucket)
    for number in range(2):
        found.entry(f"file-{number}")["mtime"] = (-1) ** number * ((1 << 63) * SECOND - 1)
    found.entry("file-2")["size"] = (1 << 63) - 1
    found.write()
    elsewhere = machine(bucket, "ws8")
    mounted = elsewhere.mount()
    for entry in found.document["entries"]:
        status = (mounted / entry["path"]).stat()
        assert (status.st_mtime_ns, status.st_size) == (entry["mtime"], entry["size"]), entry
    with (mounted / "file-2").open("rb") as file, refused(errno.EIO):
        os.pread(file.fileno(), 4096, 1 << 62)
    assert memory_of(elsewhere) < MOST_MEMORY
    elsewhere.pdfs("umount", mounted)


@pytest.mark.figure(name="H7")
def test_a_manifest_with_a_size_or_time_that_is_none_is_refused_in_words(
    bucket: Bucket, machine: MakeMachine
) -> None:
    here = machine(bucket)
    (here.mount("--create") / "file").touch()
    here.pdfs("umount", here.mountpoint)
    found = published(bucket)
    for field, value in (("size", -1), ("mtime", 1 << 95)):
        good = found.entry("file")[field]
        found.entry("file")[field] = value
        found.write()
        found.entry("file")[field] = good
        ended = here.run("mount", PROJECT, here.mountpoint)
        assert ended.code == 11, ended
        assert f"'{field}' is {value!r}" in ended.err
        assert "pdfs check" in ended.err
        assert "Traceback" not in ended.err


@pytest.mark.figure(name="H6")
def test_links_above_our_directories_are_followed_and_links_in_them_never(
    bucket: Bucket, machine: MakeMachine, tmp_path: Path
) -> None:
    here = machine(bucket)
    big, elsewhere = tmp_path / "big disk", tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name in ("state", "cache"):
        (big / name).mkdir(parents=True)
        (here.home / name).symlink_to(big / name)
    mounted = here.mount("--create")
    (mounted / "drawing.dxf").write_text("drawn\n")
    (mounted / "passwd").symlink_to("/etc/passwd")
    here.pdfs("umount", mounted)
    assert "drawing.dxf" in here.pdfs("ls", f"{PROJECT}/planning")
    assert (big / "cache" / "pdfs" / "parts").is_dir()

    mounted = here.mount()
    (mounted / "drawing.dxf").write_text("drawn again\n")
    here.kill()
    (session,) = (big / "state" / "pdfs" / "sessions").iterdir()
    journal = next(session.glob("journal-*"))
    for place in (journal, session / "snapshot", big / "cache" / "pdfs" / "parts"):
        with moved_behind_a_link(place, elsewhere):
            ended = here.run("mount", PROJECT, here.mountpoint)
            assert ended.code in (8, 11), ended
            assert "symlink" in ended.err
            assert "Traceback" not in ended.err
    here.mount()
    assert (mounted / "drawing.dxf").read_text() == "drawn again\n"
    assert os.readlink(mounted / "passwd") == "/etc/passwd"
    here.pdfs("umount", mounted)
    assert bucket.directory is not None
    plain = bucket.directory / PROJECT / "planning"
    assert (plain / "drawing.dxf").read_text() == "drawn again\n"
    assert not (plain / "passwd").exists()


@contextmanager
def moved_behind_a_link(place: Path, elsewhere: Path) -> Iterator[None]:
    """Meanwhile a link leads to what is there; nothing behind it is changed."""
    there = elsewhere / place.name
    place.rename(there)
    place.symlink_to(there)
    before = looks(there)
    try:
        yield
        assert looks(there) == before, f"{place} was followed"
    finally:
        place.unlink()
        there.rename(place)


def looks(path: Path) -> list[tuple[str, int, int, int]]:
    found = [path, *sorted(path.rglob("*"))]
    statuses = [(str(each), each.lstat()) for each in found]
    return [(name, one.st_mode, one.st_size, one.st_mtime_ns) for name, one in statuses]
