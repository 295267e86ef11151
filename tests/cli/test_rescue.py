"""What `pdfs recover rescue` writes: everything that the session made, as it was, and no more."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from pdfs.cli.rescue import Fetch, Rescue, Rescued, Segments, empty_directory
from pdfs.config import Configuration
from pdfs.core import snapshot
from pdfs.core.content import Content, ETag, Plain, content_of
from pdfs.core.ids import TOP, Inode, SessionId
from pdfs.core.ids import Path as StagePath
from pdfs.core.intervals import Extent
from pdfs.core.record import (
    Create,
    Found,
    Kind,
    Link,
    Record,
    Rename,
    SetAttributes,
    SetXattr,
    Unlink,
    Write,
)
from pdfs.core.tree import new_tree
from pdfs.disk import Disk, OsDisk
from pdfs.errors import ContentLost, DiskError, StoreUnavailable, UsageError
from pdfs.local.ledger import Ledger
from pdfs.local.recovery import recover
from pdfs.local.state import StateDirectory
from tests.cli.conftest import Run
from tests.cli.daemons import SESSION, description
from tests.local.crashing_disk import CrashingDisk, PowerCuts, materialize
from tests.local.left import leave_crashed
from tests.simulation.machine import SimulatedDisk, SimulatedJournal

DATA = b"as in the bucket\n"
TIME = 1_600_000_000_123_456_789


class JournalInMemory(Segments):
    """Reads extents of a simulated journal."""

    def __init__(self, disk: SimulatedDisk) -> None:
        self._simulated = disk

    def read(self, extent: Extent) -> bytes:
        offset = extent.at.offset
        return bytes(self._simulated.data[offset : offset + extent.stop - extent.start])


async def _at_once(call: Callable[[], None]) -> None:
    call()
    await trio.lowlevel.checkpoint()


class Crashed:
    """A session: `clean`, `dir/clean` and `long` come from the bucket."""

    def __init__(self) -> None:
        tree = new_tree(uid=0, gid=0, mode=0o755, time=0)
        self.disk = SimulatedDisk(SessionId("5" * 32), snapshot.encode(tree))
        self.tree = tree
        self._ledger = Ledger(
            tree,
            SimulatedJournal(self.disk, lambda: False),
            fetch=self.fetch,
            run_blocking=_at_once,
        )
        self._create(2, "dir", Kind.DIRECTORY)
        for ino, parent, name in ((3, TOP, "clean"), (4, 2, "clean"), (5, TOP, "long")):
            path = StagePath(name if parent == TOP else f"dir/{name}")
            content = content_of(DATA).with_plain(Plain(path, ETag(f"etag-{ino}")))
            self.commit(
                Found(
                    parent=Inode(parent),
                    name=name,
                    path=path,
                    ino=Inode(ino),
                    mode=0o644,
                    uid=0,
                    gid=0,
                    mtime=TIME,
                    time=TIME,
                    content=content,
                )
            )

    async def fetch(self, content: Content, start: int, stop: int) -> bytes:
        await trio.lowlevel.checkpoint()
        return DATA[start:stop]

    def commit(self, record: Record, data: bytes = b"") -> None:
        self._ledger.commit(record, data)

    def _create(self, ino: int, name: str, kind: Kind, target: str = "", parent: int = TOP) -> None:
        self.commit(
            Create(
                parent=Inode(parent),
                name=name,
                ino=Inode(ino),
                kind=kind,
                mode=0o750,
                uid=0,
                gid=0,
                time=TIME,
                target=target,
            )
        )

    def write(self, ino: int, offset: int, data: bytes) -> None:
        self.commit(Write(ino=Inode(ino), offset=offset, time=TIME), data)

    async def rescued(
        self,
        target: Path,
        *,
        everything: bool = False,
        fetch: Fetch | None = None,
        disk: Disk | None = None,
    ) -> Rescued:
        disk = disk or OsDisk()
        with empty_directory(disk, str(target)) as directory:
            segments = JournalInMemory(self.disk)
            rescue = Rescue(disk, directory, self.tree, segments, fetch or self.fetch)
            return await rescue.copy(everything=everything)


def names_in(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*"))


async def test_changed_files_are_written_whole_with_modes_times_and_attributes(
    tmp_path: Path,
) -> None:
    crashed = Crashed()
    crashed.write(5, 0, b"AS")
    crashed.commit(SetXattr(ino=Inode(5), name="user.author", value=b"anna", time=TIME))
    crashed.commit(SetAttributes(ino=Inode(5), time=TIME, mode=0o640, mtime=TIME))
    crashed.commit(Link(ino=Inode(5), parent=Inode(2), name="same", time=TIME))
    crashed.commit(SetAttributes(ino=Inode(2), time=TIME, mode=0o500, mtime=TIME))
    target = tmp_path / "rescued"
    rescued = await crashed.rescued(target)
    assert sorted(rescued.files) == ["dir/same", "long"]
    assert names_in(target) == ["dir", "dir/same", "long"]
    assert (target / "long").read_bytes() == b"AS" + DATA[2:]
    assert (target / "long").stat().st_ino == (target / "dir" / "same").stat().st_ino
    for name, mode in (("long", 0o640), ("dir", 0o500)):
        found = (target / name).stat()
        assert (found.st_mode & 0o7777, found.st_mtime_ns) == (mode, TIME), name
    assert os.getxattr(target / "long", "user.author") == b"anna"


async def test_symlinks_and_empty_directories_are_made_and_other_kinds_named(
    tmp_path: Path,
) -> None:
    crashed = Crashed()
    crashed._create(10, "link", Kind.SYMLINK, "/etc/passwd")
    crashed._create(11, "empty", Kind.DIRECTORY)
    crashed._create(12, "pipe", Kind.FIFO)
    crashed._create(13, "to-dir", Kind.SYMLINK, "dir")
    target = tmp_path / "rescued"
    rescued = await crashed.rescued(target)
    assert names_in(target) == ["empty", "link", "to-dir"]
    assert (target / "link").readlink() == Path("/etc/passwd")
    assert (target / "link").lstat().st_mtime_ns == TIME
    assert (target / "empty").stat().st_mtime_ns == TIME
    assert rescued.left_out == {"pipe": "fifo"}


async def test_renamed_files_are_copied_and_told_and_removed_ones_are_told(
    tmp_path: Path,
) -> None:
    crashed = Crashed()
    crashed.commit(
        Rename(parent=TOP, name="dir", new_parent=TOP, new_name="moved", exchange=False, time=TIME)
    )
    crashed.commit(Unlink(parent=TOP, name="long", time=TIME))
    target = tmp_path / "rescued"
    rescued = await crashed.rescued(target)
    assert rescued.renamed == {"moved/clean": "dir/clean"}
    assert rescued.removed == ["long"]
    assert names_in(target) == ["moved", "moved/clean"]
    assert (target / "moved" / "clean").read_bytes() == DATA


async def test_all_means_unchanged_files_too(tmp_path: Path) -> None:
    target = tmp_path / "rescued"
    rescued = await Crashed().rescued(target, everything=True)
    assert sorted(rescued.files) == ["clean", "dir/clean", "long"]
    assert (rescued.renamed, rescued.removed) == ({}, [])


@pytest.mark.parametrize("error", [ContentLost("gone"), StoreUnavailable("silent")])
async def test_a_file_whose_rest_can_not_be_had_is_named_and_takes_nobody_s_name(
    error: Exception, tmp_path: Path
) -> None:
    crashed = Crashed()
    crashed.write(5, 0, b"AS")
    crashed.commit(Link(ino=Inode(5), parent=TOP, name="same", time=TIME))
    crashed._create(10, "long.incomplete", Kind.FILE)
    crashed.write(10, 0, b"a file of the user's")

    async def fetch(content: Content, start: int, stop: int) -> bytes:
        await trio.lowlevel.checkpoint()
        raise error

    target = tmp_path / "rescued"
    rescued = await crashed.rescued(target, fetch=fetch)
    assert rescued.incomplete == {"long": [(2, 17)], "same": [(2, 17)]}
    assert rescued.files == ["long.incomplete"]
    assert (target / "long.incomplete").read_bytes() == b"a file of the user's"
    assert (target / "long.incomplete.1").read_bytes() == b"AS" + bytes(15)
    assert (target / "same.incomplete").read_bytes() == b"AS" + bytes(15)


class Stick(OsDisk):
    """As FAT has it: no links, no modes, no attributes, and not every name."""

    def open(self, directory: int, name: str, flags: int, mode: int = 0o600) -> int:
        if ":" in name:
            raise OSError(errno.EINVAL, "Invalid argument")
        return super().open(directory, name, flags, mode)

    def link(self, *_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    def symlink(self, *_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    def fchmod(self, *_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    def setxattr(self, *_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")


async def test_what_a_disk_without_links_and_modes_can_not_hold_is_named_and_the_rest_copied(
    tmp_path: Path,
) -> None:
    crashed = Crashed()
    crashed.write(5, 0, b"AS")
    for name in ("author", "state"):
        crashed.commit(SetXattr(ino=Inode(5), name=f"user.{name}", value=b"anna", time=TIME))
    crashed.commit(Link(ino=Inode(5), parent=Inode(2), name="same", time=TIME))
    crashed._create(10, "link", Kind.SYMLINK, "/etc/passwd")
    crashed._create(11, "12:30", Kind.FILE)
    crashed._create(12, "zone", Kind.FILE)
    crashed.write(12, 0, b"last")
    target = tmp_path / "rescued"
    rescued = await crashed.rescued(target, disk=Stick())
    assert names_in(target) == ["dir", "dir/same", "long", "zone"]
    for name in ("dir/same", "long"):
        assert (target / name).read_bytes() == b"AS" + DATA[2:]
        assert rescued.left_out[StagePath(name)] == "attributes user.author, user.state"
    assert (target / "zone").read_bytes() == b"last"
    assert (target / "zone").stat().st_mtime_ns == TIME
    assert rescued.left_out[StagePath("link")] == "symlink to /etc/passwd"
    assert rescued.refused == {"12:30": "Invalid argument"}
    assert rescued.unkept == {"modes"}
    assert rescued.files == ["dir/same", "long", "zone"]
    assert not rescued.incomplete


def test_a_name_that_the_disk_does_not_take_is_no_success(
    run: Run, configuration: Configuration, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {"12:30": b"drawn", "zone": b"last"}
    leave_crashed(configuration.state, description(configuration), SESSION, files)
    monkeypatch.setattr("pdfs.cli.recover.OsDisk", Stick)
    said = run("recover", "rescue", SESSION, tmp_path / "stick")
    assert said.exit_code == 8
    assert said.stdout.splitlines() == [
        f"1 file copied to {tmp_path / 'stick'}",
        "not copied, for its name: 12:30 (Invalid argument)",
        "not kept on that disk: modes",
    ]
    assert "does not take 1 name; name a directory on another disk" in said.stderr
    assert names_in(tmp_path / "stick") == ["zone"]


async def test_what_was_copied_survives_a_power_cut(tmp_path: Path, seed: int) -> None:
    crashed = Crashed()
    for ino in (4, 5):
        crashed.write(ino, 0, b"AS")
    disk = CrashingDisk(tmp_path)
    await crashed.rescued(tmp_path / "rescued", disk=disk)
    end = len(disk.log)
    for _, state in PowerCuts(disk, seed).states(since=end):
        materialize(state, tmp_path / "cut")
        assert names_in(tmp_path / "cut" / "rescued") == ["dir", "dir/clean", "long"]
        for name in ("dir/clean", "long"):
            assert (tmp_path / "cut" / "rescued" / name).read_bytes() == b"AS" + DATA[2:]


async def test_whenever_a_rescue_is_cut_short_nothing_looks_whole_that_is_not(
    tmp_path: Path, seed: int
) -> None:
    """By a kill, or by a power cut: who sees the file's name may discard the session."""
    crashed = Crashed()
    for ino in (4, 5):
        crashed.write(ino, 0, b"AS")
    disk = CrashingDisk(tmp_path)
    await crashed.rescued(tmp_path / "rescued", disk=disk)
    seen = set()
    for _, state in PowerCuts(disk, seed).states():
        materialize(state, tmp_path / "cut")
        there = tmp_path / "cut" / "rescued"
        for name in names_in(there) if there.exists() else []:
            seen.add(name)
            if name in ("dir/clean", "long"):
                assert (there / name).read_bytes() == b"AS" + DATA[2:]
    assert seen >= {"dir/clean", "long", "dir/clean.incomplete", "long.incomplete"}


async def test_a_rescue_takes_the_name_of_nothing_that_is_there_by_then(tmp_path: Path) -> None:
    """As on a disk that takes two names for one, or where somebody puts a file meanwhile."""
    crashed = Crashed()
    crashed.write(5, 0, b"AS")
    target = tmp_path / "rescued"

    async def fetch(content: Content, start: int, stop: int) -> bytes:
        await trio.lowlevel.checkpoint()
        (target / "long").write_bytes(b"another")
        return DATA[start:stop]

    with empty_directory(OsDisk(), str(target)) as directory:
        rescue = Rescue(OsDisk(), directory, crashed.tree, JournalInMemory(crashed.disk), fetch)
        with pytest.raises(DiskError, match="write 'long': File exists"):
            await rescue.copy(everything=False)
    assert (target / "long").read_bytes() == b"another"
    assert (target / "long.incomplete").read_bytes() == b"AS" + DATA[2:]


def test_bytes_that_are_not_in_the_journal_any_more_are_no_zeros(tmp_path: Path) -> None:
    leave_crashed(tmp_path, {"project": "P", "stage": "s"}, SESSION, {"drawing": b"drawn"})
    with StateDirectory(OsDisk(), tmp_path) as state, state.open_session(SESSION) as held:
        recovered = recover(OsDisk(), held)
        assert recovered is not None
        node = recovered.tree.find(StagePath("drawing"))
        assert node is not None
        (extent,) = node.extents
        segments = Segments(OsDisk(), held)
        assert segments.read(extent) == b"drawn"
        (file,) = Path(held.path).glob("journal-*")
        os.truncate(file, extent.at.offset + 2)
        with pytest.raises(OSError, match="ends before byte"):
            segments.read(extent)


def test_a_directory_that_is_not_empty_is_refused(tmp_path: Path, run: Run) -> None:
    (tmp_path / "there").touch()
    with pytest.raises(UsageError, match="not empty"), empty_directory(OsDisk(), str(tmp_path)):
        pass
    assert names_in(tmp_path) == ["there"]


async def test_a_link_that_somebody_puts_there_meanwhile_is_not_followed(tmp_path: Path) -> None:
    crashed = Crashed()
    crashed.write(4, 0, b"AS")
    outside, target = tmp_path / "outside", tmp_path / "rescued"
    outside.mkdir()

    async def fetch(content: Content, start: int, stop: int) -> bytes:
        await trio.lowlevel.checkpoint()
        return DATA[start:stop]

    with empty_directory(OsDisk(), str(target)) as directory:
        (target / "dir").symlink_to(outside)
        rescue = Rescue(OsDisk(), directory, crashed.tree, JournalInMemory(crashed.disk), fetch)
        with pytest.raises(Exception, match="write 'dir/clean'"):
            await rescue.copy(everything=False)
    assert names_in(outside) == []
