"""A state machine of all 17 kinds of operation, with crashes, power cuts, checkpoints and replays.

Each rule is a system call on the file system's handlers and on the reference model: same answer or
same errno. After each crash the journal is replayed, and the tree is the model's: after the death
of the process as it was, after a power cut as it was at some moment not before the last fsync.
Hypothesis makes the story of a failure as short as it can. (Longer ones: `test_model`.)
"""

import copy
import itertools
import os
import random
import shutil
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path

import trio
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from pdfs.core.ids import TOP, SessionId
from pdfs.disk import OsDisk
from pdfs.fs.error import FsError
from pdfs.fs.plan import Change
from pdfs.local.journal import Journal
from pdfs.local.recovery import recover
from pdfs.local.state import StateDirectory
from pdfs.local.upkeep import Upkeep
from tests.fs.model import Refused, Thing
from tests.fs.sessions import SESSION, inline
from tests.fs.test_model import Both
from tests.local.crashing_disk import CrashingDisk, PowerCuts, materialize
from tests.local.ledgers import made_here

NAMES = st.sampled_from(["a", "b", "c", "Blatt ü", "base0", "base3"])
PATHS = st.lists(NAMES, min_size=1, max_size=2).map("/".join)
HANDLES = st.integers(0, 20)
SIZES = st.one_of(st.integers(0, 20), st.sampled_from([511, 4096, 5000]))
BYTES = st.one_of(st.binary(max_size=8), st.sampled_from([b"x" * 3000, b"y" * 9000]))
MODES = st.sampled_from([0o644, 0o600, 0o755, 0o2755])
ATTRIBUTES = st.sampled_from(["user.eins", "user.zwei"])

OPERATIONS = frozenset(
    {
        *("create", "write", "append", "overwrite", "truncate", "rename", "rename_over", "unlink"),
        *("link", "symlink", "mkdir", "rmdir", "chmod", "utimens", "setxattr", "fsync", "fsyncdir"),
    }
)


ENDS = frozenset({"checkpoint", "die", "lose power"})


class Session(RuleBasedStateMachine):
    """One session of a stage, through the processes that serve it."""

    done: set[str]
    """Operations that were not refused, in all runs."""

    def __init__(self) -> None:
        super().__init__()
        self.work = Path(tempfile.mkdtemp(prefix="pdfs-machine-"))
        self.lives = itertools.count()
        self.daemon = ExitStack()

    @initialize()
    def begin(self) -> None:
        root = self.work / "first"
        root.mkdir()
        self.both = Both(root, random.Random(0))
        self.disk = CrashingDisk(root)
        self.promised = 0
        self.history: dict[int, Thing] = {}
        self._start()

    def teardown(self) -> None:
        self.daemon.close()
        shutil.rmtree(self.work)

    @invariant()
    def the_tree_is_that_of_the_model(self) -> None:
        trio.run(self.both.check_tree)

    # --- operations -------------------------------------------------------------------------------

    @rule(path=PATHS, mode=MODES)
    def create(self, path: str, mode: int) -> None:
        self._open("create", path, os.O_RDWR | os.O_CREAT | os.O_EXCL, mode)

    @rule(path=PATHS, flags=st.sampled_from([os.O_RDONLY, os.O_RDWR, os.O_RDWR | os.O_TRUNC]))
    def open(self, path: str, flags: int) -> None:
        self._open("open", path, flags, 0)

    @rule(which=HANDLES, data=BYTES, offset=SIZES)
    @precondition(lambda self: self.both.handles)
    def write(self, which: int, data: bytes, offset: int) -> None:
        self._on_handle("write", "pwrite", which, data, offset)

    @rule(which=HANDLES, data=BYTES)
    @precondition(lambda self: self.both.handles)
    def append(self, which: int, data: bytes) -> None:
        self._on_handle("append", "pwrite", which, data, self._size(which))

    @rule(which=HANDLES, data=BYTES, back=st.integers(1, 9))
    @precondition(lambda self: self.both.handles)
    def overwrite(self, which: int, data: bytes, back: int) -> None:
        self._on_handle("overwrite", "pwrite", which, data, max(0, self._size(which) - back))

    @rule(which=HANDLES, size=SIZES, offset=SIZES)
    @precondition(lambda self: self.both.handles)
    def read(self, which: int, size: int, offset: int) -> None:
        self._on_handle("read", "pread", which, size, offset)

    @rule(which=HANDLES, size=SIZES)
    @precondition(lambda self: self.both.handles)
    def truncate(self, which: int, size: int) -> None:
        self._on_handle("truncate", "ftruncate", which, size)

    @rule(path=PATHS, size=SIZES)
    def truncate_by_name(self, path: str, size: int) -> None:
        self._call("truncate", "truncate", path, size)

    @rule(which=HANDLES)
    @precondition(lambda self: self.both.handles)
    def close(self, which: int) -> None:
        handle = self.both.handles.pop(which % len(self.both.handles))
        self._call("close", "close", handle)

    @rule(old=PATHS, new=PATHS, flags=st.sampled_from([0, 1, 2]))
    def rename(self, old: str, new: str, flags: int) -> None:
        self._call("rename", "rename", old, new, flags)

    @rule(data=st.data())
    def rename_over(self, data: st.DataObject) -> None:
        there = [path for path, _ in self.both.model.walk()]
        if len(there) > 1:
            old, new = data.draw(st.permutations(there))[:2]
            self._call("rename_over", "rename", old, new, 0)

    @rule(path=PATHS)
    def unlink(self, path: str) -> None:
        self._call("unlink", "unlink", path)

    @rule(old=PATHS, new=PATHS)
    def link(self, old: str, new: str) -> None:
        self._call("link", "link", old, new)

    @rule(path=PATHS)
    def symlink(self, path: str) -> None:
        self._call("symlink", "symlink", "irgend/wohin", path)

    @rule(path=PATHS, mode=MODES)
    def mkdir(self, path: str, mode: int) -> None:
        self._call("mkdir", "mkdir", path, mode)

    @rule(data=st.data())
    def rmdir(self, data: st.DataObject) -> None:
        there = [path for path, thing in self.both.model.walk() if thing.is_directory]
        self._call("rmdir", "rmdir", data.draw(st.sampled_from([*there, "a"])))

    @rule(path=PATHS, mode=MODES)
    def chmod(self, path: str, mode: int) -> None:
        self._call("chmod", "chmod", path, mode)

    @rule(path=PATHS, mtime=st.integers(-(10**18), 2**62))
    def utimens(self, path: str, mtime: int) -> None:
        self._both_sides(
            "utimens",
            lambda: self.both.process.change(path, Change(mtime=mtime)),
            lambda: self.both.model.utime(path, mtime),
        )

    @rule(path=PATHS, name=ATTRIBUTES, value=BYTES)
    def setxattr(self, path: str, name: str, value: bytes) -> None:
        self._call("setxattr", "setxattr", path, name, value)

    @rule(path=PATHS, name=ATTRIBUTES)
    def removexattr(self, path: str, name: str) -> None:
        self._call("removexattr", "removexattr", path, name)

    @rule(which=HANDLES)
    @precondition(lambda self: self.both.handles)
    def fsync(self, which: int) -> None:
        handle = self.both.handles[which % len(self.both.handles)]
        trio.run(self.both.filesystem.fsync, handle)
        self._promise("fsync")

    @rule()
    def fsyncdir(self) -> None:
        filesystem = self.both.filesystem
        handle = filesystem.opendir(TOP)
        trio.run(filesystem.fsyncdir, handle)
        filesystem.releasedir(handle)
        self._promise("fsyncdir")

    # --- what befalls the session -----------------------------------------------------------------

    @rule()
    def checkpoint(self) -> None:
        """What it writes is synced, and all before it."""
        journal = self.both.ledger._journal
        assert isinstance(journal, Journal)

        async def make() -> None:
            await Upkeep(
                self.both.ledger,
                journal,
                make=made_here(self.disk, journal.directory),
                run_blocking=inline,
                tell=lambda error: None,
            ).checkpoint()

        trio.run(make)
        self._promise("checkpoint")

    @rule()
    def die(self) -> None:
        """Kill -9: nothing that was acknowledged is lost."""
        self._end("die")
        assert self._last_left() == self.last
        self._start()

    @rule(which=st.integers(0, 30), seed=st.integers(0, 1000))
    def lose_power(self, which: int, seed: int) -> None:
        """Nothing that was synced is lost, and what is left is the state of some moment."""
        self._end("lose power")
        now = len(self.disk.log)
        states = [state for _, state in PowerCuts(self.disk, seed).states(9, since=now, until=now)]
        self.both.path = self.work / str(next(self.lives))
        materialize(states[which % len(states)], self.both.path)
        self.disk = CrashingDisk(self.both.path)
        last = self._last_left()
        assert last >= self.promised
        self.both.model.top = copy.deepcopy(self.history[last])
        self._start()

    # --- how --------------------------------------------------------------------------------------

    def _start(self) -> None:
        self.both.disk = self.disk
        self.daemon.enter_context(self.both.mounted())
        self.last = self.both.ledger.last
        self.history[self.last] = copy.deepcopy(self.both.model.top)
        self.promised = self.last  # a recovery has copied and synced all that it found

    def _end(self, why: str) -> None:
        self.done.add(why)
        self.daemon.close()
        self.daemon = ExitStack()

    def _last_left(self) -> int:
        with (
            StateDirectory(OsDisk(), self.both.path) as state,
            state.open_session(SessionId(SESSION)) as directory,
        ):
            recovered = recover(OsDisk(), directory)
        assert recovered is not None
        assert not recovered.damage
        return recovered.end.last_sequence

    def _open(self, operation: str, path: str, flags: int, mode: int) -> None:
        both, count = self.both, len(self.both.handles)

        def theirs() -> None:
            newest = both.handles[-1] if len(both.handles) > count else -1
            both.model.open(path, flags, mode, newest)

        def ours() -> None:
            both.handles.append(both.process.open(path, flags, mode))

        self._both_sides(operation, ours, theirs)

    def _on_handle(self, operation: str, call: str, which: int, *given: object) -> None:
        self._call(operation, call, self.both.handles[which % len(self.both.handles)], *given)

    def _size(self, which: int) -> int:
        handle = self.both.handles[which % len(self.both.handles)]
        return len(self.both.model.descriptors[handle].thing.content)

    def _call(self, operation: str, call: str, *given: object) -> None:
        self._both_sides(
            operation,
            lambda: getattr(self.both.process, call)(*given),
            lambda: getattr(self.both.model, call)(*given),
        )

    def _both_sides(
        self, operation: str, ours: Callable[[], object], theirs: Callable[[], object]
    ) -> None:
        self.both.model.now += 10**9
        answer, expected = trio.run(_answer, ours), _expected(theirs)
        assert answer == expected
        if not isinstance(answer, FsErrno):
            self.done.add(operation)
        if self.both.ledger.last != self.last:
            top = copy.deepcopy(self.both.model.top)
            self.history |= dict.fromkeys(range(self.last + 1, self.both.ledger.last + 1), top)
            self.last = self.both.ledger.last

    def _promise(self, operation: str) -> None:
        self.promised = self.last
        self.done.add(operation)


class FsErrno(int):
    """What a call was refused with."""


async def _answer(call: Callable[[], object]) -> object:
    await trio.lowlevel.checkpoint()
    try:
        got = call()
        return await got if isinstance(got, Awaitable) else got
    except FsError as error:
        return FsErrno(error.errno)


def _expected(call: Callable[[], object]) -> object:
    try:
        return call()
    except Refused as error:
        return FsErrno(error.errno)


def do_each_once(session: Session) -> None:
    """Every operation where it succeeds, with an end of the process after some of them."""
    session.mkdir("a", 0o755)
    session.create("a/b", 0o644)
    session.write(0, b"12345678", 0)
    session.append(0, b"9")
    session.overwrite(0, b"x", 3)
    session.truncate(0, 5)
    session.fsync(0)
    session.link("a/b", "c")
    session.rename("c", "Blatt ü", 0)
    session.die()
    session.create("c", 0o600)
    session._call("rename_over", "rename", "c", "base3", 0)
    session.checkpoint()
    session.symlink("c")
    session.chmod("a/b", 0o600)
    session.utimens("a/b", 10**18)
    session.setxattr("a/b", "user.eins", b"1")
    session.fsyncdir()
    session.lose_power(0, 0)
    session.unlink("a/b")
    session._call("rmdir", "rmdir", "a")


def test_each_operation_alone_leaves_the_tree_of_the_model() -> None:
    Session.done = set()
    session = Session()
    session.begin()
    try:
        do_each_once(session)
        session.the_tree_is_that_of_the_model()
    finally:
        session.teardown()
    assert Session.done == OPERATIONS | ENDS


def test_whatever_is_done_and_crashes_in_between_the_tree_is_that_of_the_model(
    is_full: bool,
) -> None:
    """What a few stories happen not to do, `do_each_once` has done; many do everything."""
    Session.done = set()
    examples = 1000 if is_full else 15
    run_state_machine_as_test(Session, settings=settings(max_examples=examples))
    if is_full:
        assert Session.done >= OPERATIONS | ENDS
