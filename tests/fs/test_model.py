"""Random system calls against a reference model, with crashes in between (figure J5).

Each call is made on both sides: same answer or same errno. After each crash the journal is replayed
from its beginning, and the tree is the model's: names, kinds, modes, times, links, attributes, and
every byte. A failure names the seed and the number of the call that came out differently.
"""

import itertools
import os
import random
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trio

from pdfs.core.content import Content, content_of
from pdfs.core.ids import TOP, Inode
from pdfs.core.ids import Path as StagePath
from pdfs.core.record import Found, Kind
from pdfs.core.tree import Tree, new_tree
from pdfs.disk import Disk, OsDisk
from pdfs.errors import ContentLost
from pdfs.fs.error import FsError
from pdfs.fs.filesystem import StageFilesystem
from pdfs.fs.plan import Change
from pdfs.local.ledger import Ledger
from tests.conftest import Reached
from tests.fs.model import Model, Refused, Thing
from tests.fs.process import Process
from tests.fs.sessions import inline, ledger_of
from tests.lengths import Length

BASES = {f"base{number}": random.Random(number).randbytes(2000 * number + 1) for number in range(4)}
NAMES = ["a", "b", "c", "Blatt ü", "\udcff"]
SIZES = [0, 1, 511, 512, 4096, 5000, 9999]
TYPES = {
    Kind.FILE: stat.S_IFREG,
    Kind.DIRECTORY: stat.S_IFDIR,
    Kind.SYMLINK: stat.S_IFLNK,
    Kind.FIFO: stat.S_IFIFO,
}


def contents() -> dict[Content, bytes]:
    """What the bucket holds."""
    return {content_of(data): data for data in BASES.values()}


def based_tree() -> Tree:
    """What the session began with: a few files, none of whose bytes are on this machine."""
    tree = new_tree(uid=0, gid=0)
    for number, (name, data) in enumerate(BASES.items()):
        found = Found(
            parent=TOP,
            name=name,
            path=StagePath(name),
            ino=Inode(100 + number),
            mode=0o644,
            uid=0,
            gid=0,
            mtime=0,
            time=0,
            content=content_of(data),
        )
        tree.apply(found)
    return tree


def based_model() -> Model:
    model = Model()
    for name, data in BASES.items():
        model.top.names[name] = Thing(stat.S_IFREG, 0o644, 0, 0, bytearray(data))
    return model


@dataclass
class Both:
    """The two sides, and the journal that survives."""

    path: Path
    choice: random.Random
    model: Model = field(default_factory=based_model)
    handles: list[int] = field(default_factory=list)
    disk: Disk = field(default_factory=OsDisk)
    compared: int = 0
    """Things that were found to be the same."""

    @contextmanager
    def mounted(self) -> Iterator[None]:
        """From one start of the daemon to the next crash."""
        known = contents()

        async def fetch(content: Content, start: int, stop: int) -> bytes:
            await trio.lowlevel.checkpoint()
            if content not in known:
                raise ContentLost("not a content of this stage")
            return known[content][start:stop]

        with ledger_of(
            self.path, based_tree, fetch=fetch, run_blocking=inline, disk=self.disk
        ) as ledger:
            self.filesystem = StageFilesystem(
                ledger, now_ns=lambda: self.model.now, room=lambda: os.statvfs("/")
            )
            self.ledger: Ledger = ledger
            self.process = Process(self.filesystem)
            yield
        self.handles.clear()
        self.model.crash()

    async def call(self) -> tuple[object, object]:
        """One call on both sides: what came out."""
        self.model.now += self.choice.randrange(1, 10**10)
        kind, make = self.choice.choice(CALLS)
        if kind == "handle" and not self.handles:
            return None, None
        ours, theirs = make(self)
        try:
            got = ours()
            answer = await got if hasattr(got, "__await__") else got
        except FsError as error:
            answer = error.errno
        try:
            expected = theirs()
        except Refused as error:
            expected = error.errno
        return answer, expected

    def some_path(self) -> str:
        pick, depth = self.choice.choice, self.choice.choice([1, 1, 1, 2, 2, 3])
        there = [path for path, _ in itertools.islice(self.model.walk(), 60)]
        if self.choice.random() < min(0.6, len(there) / 30):
            return pick(there)
        return "/".join(pick([*NAMES, *BASES]) for _ in range(depth))

    async def check_tree(self) -> None:
        """Ours is the model's."""
        ours = dict(self.filesystem.tree.walk())
        theirs = dict(self.model.walk())
        assert sorted(ours) == sorted(theirs)
        self.compared += len(theirs)
        same: dict[Inode, Thing] = {}
        for path, thing in theirs.items():
            node = ours[StagePath(path)]
            assert same.setdefault(node.ino, thing) is thing, path
            assert TYPES[node.kind] == thing.type, path
            assert node.mode == thing.mode, path
            assert (node.mtime, node.ctime) == (thing.mtime, thing.ctime), path
            assert (node.target, node.xattrs) == (thing.target, thing.xattrs), path
            inner = [one for one in thing.names.values() if one.is_directory]
            assert node.links == (2 + len(inner) if thing.is_directory else thing.links), path
            if node.is_file:
                assert await self.ledger.read(node, 0, node.size) == bytes(thing.content), path


Sides = tuple[Callable[[], object], Callable[[], object]]


def on_path(name: str, *values: Callable[[random.Random], object]) -> Callable[[Both], Sides]:
    """A call with one path, and values by chance."""

    def make(both: Both) -> Sides:
        path, given = both.some_path(), [value(both.choice) for value in values]
        return (
            lambda: getattr(both.process, name)(path, *given),
            lambda: getattr(both.model, name)(path, *given),
        )

    return make


def on_two_paths(name: str, *values: Callable[[random.Random], object]) -> Callable[[Both], Sides]:
    def make(both: Both) -> Sides:
        paths = both.some_path(), both.some_path()
        given = [value(both.choice) for value in values]
        return (
            lambda: getattr(both.process, name)(*paths, *given),
            lambda: getattr(both.model, name)(*paths, *given),
        )

    return make


def on_handle(name: str, *values: Callable[[random.Random], object]) -> Callable[[Both], Sides]:
    def make(both: Both) -> Sides:
        handle = both.choice.choice(both.handles)
        given = [value(both.choice) for value in values]
        return (
            lambda: getattr(both.process, name)(handle, *given),
            lambda: getattr(both.model, name)(handle, *given),
        )

    return make


def an_open(both: Both) -> Sides:
    path, flags, mode = both.some_path(), an_open_flag(both.choice), a_mode(both.choice)

    def ours() -> None:
        both.handles.append(both.process.open(path, flags, mode))

    count = len(both.handles)

    def theirs() -> None:
        newest = both.handles[-1] if len(both.handles) > count else -1
        both.model.open(path, flags, mode, newest)

    return ours, theirs


def a_close(both: Both) -> Sides:
    handle = both.handles.pop(both.choice.randrange(len(both.handles)))
    return lambda: both.process.close(handle), lambda: both.model.close(handle)


def a_utime(both: Both) -> Sides:
    path, time = both.some_path(), both.choice.choice([-(10**18), 0, 12345678901234567, 2**62])
    return lambda: both.process.change(path, Change(mtime=time)), lambda: both.model.utime(
        path, time
    )


def a_size(choice: random.Random) -> int:
    return choice.choice([*SIZES, choice.randrange(20000)])


def some_bytes(choice: random.Random) -> bytes:
    return choice.randbytes(a_size(choice))


def a_mode(choice: random.Random) -> int:
    return choice.choice([0o644, 0o600, 0o755, 0o4711, 0o2755, 0])


def an_open_flag(choice: random.Random) -> int:
    access = choice.choice([os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_RDWR])
    others = (os.O_CREAT, os.O_CREAT, os.O_EXCL | os.O_CREAT, os.O_TRUNC, 0, 0)
    return access | choice.choice(others) | choice.choice(others)


def a_flag(choice: random.Random) -> int:
    return choice.choice([0, 0, 0, 1, 2])


def an_attribute(choice: random.Random) -> str:
    return choice.choice(["user.eins", "user.zwei", "user.\udc80"])


CALLS: list[tuple[str, Callable[[Both], Sides]]] = [
    *[("path", an_open)] * 6,
    *[("handle", a_close)] * 3,
    *[("handle", on_handle("pwrite", some_bytes, a_size))] * 8,
    *[("handle", on_handle("pread", a_size, a_size))] * 6,
    *[("handle", on_handle("ftruncate", a_size))] * 2,
    ("path", on_path("truncate", a_size)),
    *[("path", on_path("mkdir", a_mode))] * 3,
    ("path", on_path("mknod", lambda choice: stat.S_IFIFO | a_mode(choice))),
    *[("path", on_path("rmdir"))] * 2,
    *[("path", on_path("unlink"))] * 3,
    *[("path", on_two_paths("rename", a_flag))] * 6,
    *[("path", on_two_paths("link"))] * 2,
    ("path", lambda both: on_path_last("symlink", both)),
    ("path", on_path("readlink")),
    ("path", on_path("listdir")),
    ("path", on_path("chmod", a_mode)),
    ("path", a_utime),
    ("path", on_path("setxattr", an_attribute, some_bytes)),
    ("path", on_path("getxattr", an_attribute)),
    ("path", on_path("removexattr", an_attribute)),
]


def on_path_last(name: str, both: Both) -> Sides:
    path = both.some_path()
    return (
        lambda: getattr(both.process, name)("irgend/wohin", path),
        lambda: getattr(both.model, name)("irgend/wohin", path),
    )


MOST_BETWEEN_CRASHES = 25_000


@pytest.mark.figure(name="J5")
@pytest.mark.parametrize("number", range(10))
async def test_random_calls_with_crashes_in_between_come_out_as_posix_says(
    number: int, seed: int, length: Length, tmp_path: Path, reached: Reached
) -> None:
    both = Both(tmp_path, random.Random(f"{seed} {number}"))
    calls = refused = 0
    wanted = length.pick(sample=2_000, full=100_000, long=1_000_000)
    with ExitStack() as daemon:
        while calls < wanted:
            daemon.close()
            daemon.enter_context(both.mounted())
            await both.check_tree()
            for _ in range(both.choice.randrange(1, min(wanted // 4, MOST_BETWEEN_CRASHES))):
                answer, expected = await both.call()
                calls += 1
                refused += isinstance(expected, int) and expected > 0 and answer == expected
                assert answer == expected, f"call {calls} of PDFS_TEST_SEED={seed}, {number}"
            await both.check_tree()
    reached(calls, "calls against the model")
    assert calls > refused > 0
    assert both.compared > 50


async def test_nodes_without_a_name_are_gone_once_nobody_uses_them(
    seed: int, tmp_path: Path
) -> None:
    both = Both(tmp_path, random.Random(f"{seed} orphans"))
    most = 0
    with both.mounted():
        for _ in range(2_000):
            await both.call()
            most = max(most, len(both.filesystem.tree.orphans))
            held = both.filesystem.busy()
            assert both.filesystem.tree.orphans <= held
        for handle in both.handles:
            both.process.close(handle)
        assert most > 0
        assert not both.filesystem.tree.orphans
