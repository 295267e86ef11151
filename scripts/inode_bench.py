"""What a daemon takes for each file of a stage that it has mounted and nobody has changed."""

import contextlib
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import click

from pdfs.core import manifest as core_manifest
from pdfs.core import root as core_root
from pdfs.core.content import Content, ETag, Packed, Plain, content_of
from pdfs.core.entries import Entries, Entry
from pdfs.core.ids import Fence, Inode, ObjectName, RunId, SessionId, object_name
from pdfs.core.ids import Path as StagePath
from pdfs.core.keys import StageKeys, join
from pdfs.core.manifest import never_published
from pdfs.core.record import Kind

PDFS = Path(sys.executable).with_name("pdfs")
PROJECT = "bench"
STAGE = "planning"
FENCE = Fence(1)
PER_DIRECTORY = 1000
FILE_SIZE = 2048
FIRST_TIME = 1_700_000_000_123_456_789
KIB = 1 << 10
MIB = 1 << 20
KINDS = {"owner": (), "reader": ("--read-only",)}


class Place:
    """A bucket and a machine of their own, below `root`."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.mountpoint = root / "mnt"
        for directory in (self.mountpoint, root / "run", root / "bucket"):
            directory.mkdir(parents=True)

    @property
    def _environ(self) -> Mapping[str, str]:
        names = ("state_home", "cache_home", "config_home", "runtime_dir")
        own = {f"XDG_{name.upper()}": str(self._root / name.partition("_")[0]) for name in names}
        return {**os.environ, **own, "PDFS_BUCKET": f"file://{self._root / 'bucket'}"}

    def pdfs(self, *arguments: str | Path) -> str:
        """Run `pdfs`, which has to succeed; what it printed."""
        return subprocess.run(
            [PDFS, *arguments], env=self._environ, check=True, stdout=subprocess.PIPE, text=True
        ).stdout

    def fill(self, files: int) -> None:
        """Make the stage as a publish of so many small files would leave it, without its syncs."""
        keys, entries = StageKeys(PROJECT, STAGE), Entries()
        for folder in range(-(-files // PER_DIRECTORY)):
            above, pack = StagePath(f"area-{folder:04}"), bytearray()
            holder = object_name(FENCE, f"{folder:032x}")
            entries.append(_entry(above, (1 << 33) + folder, Kind.DIRECTORY))
            for number in range(folder * PER_DIRECTORY, min(files, (folder + 1) * PER_DIRECTORY)):
                path = join(above, f"isometric-{number:07}.dxf")
                data = f"{number:07}\n".encode() * (FILE_SIZE // 8)
                etag = ETag(hashlib.md5(data, usedforsecurity=False).hexdigest())
                home, content = Packed(holder, len(pack)), content_of(data)
                content = content.at(packed=(home,), plain=(Plain(path, etag),))
                entries.append(_entry(path, (1 << 32) + number, Kind.FILE, content))
                self._write(keys.plain(path), data)
                pack += data
            self._write(keys.content(holder), bytes(pack))
        name = object_name(FENCE, "a" * 32)
        tree = replace(never_published(), generation=1, entries=entries)
        self._write(keys.tree(name), core_manifest.encode(tree))
        self._write(keys.root, core_root.encode(_root(name)))

    def _write(self, key: str, body: bytes) -> None:
        file = self._root / "bucket" / key
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(body)

    @contextlib.contextmanager
    def mounted(self, *options: str) -> Iterator[Path]:
        """/proc of the daemon, once all contents are on this machine."""
        self.pdfs("mount", PROJECT, self.mountpoint, "--wait", *options)
        try:
            (told,) = json.loads(self.pdfs("status", "--json"))["sessions"]
            yield Path("/proc", str(told["pid"]))
        finally:
            self.pdfs("umount", self.mountpoint)

    def look_at_all(self) -> int:
        """Have the kernel know every inode; how many these are."""
        seen = 1
        for directory, folders, files in os.walk(self.mountpoint):
            for name in (*folders, *files):
                os.lstat(Path(directory, name))
                seen += 1
        return seen


def _entry(path: StagePath, ino: int, kind: Kind, content: Content | None = None) -> Entry:
    return Entry(
        path=path, ino=Inode(ino), kind=kind, mode=0o644, mtime=FIRST_TIME + ino, content=content
    )


def _root(tree: ObjectName) -> core_root.Root:
    return core_root.Root(
        id="bench",
        generation=1,
        fence=FENCE,
        session=SessionId("b" * 32),
        run=RunId("c" * 32),
        tree=tree,
        plan=None,
        sessions=(),
    )


def resident(process: Path) -> int:
    """Bytes."""
    return int((process / "status").read_text().partition("VmRSS:")[2].split()[0]) * KIB


def measured(root: Path, files: int) -> dict[str, list[tuple[int, int]]]:
    """By kind of mount: inodes and resident bytes, of each mount in turn."""
    place = Place(root / str(files))
    place.fill(files)
    found: dict[str, list[tuple[int, int]]] = {}
    for kind in (*KINDS, *KINDS):
        with place.mounted(*KINDS[kind]) as process:
            inodes = place.look_at_all()
            found.setdefault(kind, []).append((inodes, resident(process)))
    return found


@click.command("inodes")
@click.option("--few", default=40_000, show_default=True, help="Files of the smaller stage.")
@click.option("--many", default=100_000, show_default=True, help="Files of the larger one.")
@click.option("--dir", "parent", type=Path, help="Where; by default, where temporary files are.")
def inode_command(few: int, many: int, parent: Path | None) -> None:
    """Memory of the daemon for each inode, all of them looked up and their contents fetched.

    Each stage is mounted twice by each kind of mount: first with an empty cache, then with a full
    one. Wanted: at most 200 MiB and 1 KiB for each inode.
    """
    with tempfile.TemporaryDirectory(prefix="pdfs-bench.", dir=parent) as root:
        small, large = (measured(Path(root), files) for files in (few, many))
    click.echo(f"{'':18}{'inodes':>12}{'MiB':>8}{'bytes/inode':>13}{'of what is wanted':>19}")
    for kind in KINDS:
        for when, before, after in zip(("first", "again"), small[kind], large[kind], strict=True):
            each = (after[1] - before[1]) / (after[0] - before[0])
            share = after[1] / (200 * MIB + KIB * after[0])
            row = f"{after[0]:12,}{after[1] / MIB:8.0f}{each:13.0f}{share:19.2f}"
            click.echo(f"{f'{kind}, {when}':18}{row}")
