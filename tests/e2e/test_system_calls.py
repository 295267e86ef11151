"""kill -9 of the daemon of a real mount before the k-th of its system calls (C2).

The commands are the real ones; strace follows the daemon from its start to its end, and kills it
before one call. Points are named as strace counts (see `tests/local/strace.py`): with several
threads a point is not always the same call, so what was hit is read from strace's log. The oracle
is a plain directory that takes each operation once the mount has acknowledged it.
"""

import json
import os
import random
import re
import shutil
import time
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.conftest import LENGTH, Reached
from tests.e2e.conftest import MakeMachine
from tests.e2e.machines import LIMIT, PROJECT, ROOT, Bucket, Machine
from tests.local.strace import Call, Point, calls, kill_at

Operation = Callable[[Path], object]
"""One request that changes the tree at that path."""
TRACING = Path(__file__).with_name("tracing")
SHARE = {"full": 5, "long": 1}
"""One in so many points; in the sample, none."""
OWN = "{home}/state/pdfs/sessions/{session}"


def operations(round_: int, choice: random.Random) -> list[Operation]:
    """What a session does in a directory of its own, request by request."""
    top, data = f"round {round_}", choice.randbytes
    block, tail, late = data(9000), data(300), data(5000)
    steps: list[Operation] = [
        lambda at: (at / top).mkdir(),
        lambda at: (at / top / "a").touch(),
        lambda at: write(at / top / "a", 0, block),
        lambda at: write(at / top / "a", 9000, tail),
        lambda at: sync(at / top / "a"),
        lambda at: os.truncate(at / top / "a", 4000),
        lambda at: os.link(at / top / "a", at / top / "linked"),
        lambda at: os.symlink("a", at / top / "symlink"),
        lambda at: os.setxattr(at / top / "a", "user.colour", tail),
        lambda at: (at / top / "a").rename(at / top / "renamed"),
        lambda at: (at / top / "gone").touch(),
        lambda at: write(at / top / "gone", 0, late),
        lambda at: (at / top / "gone").unlink(),
        lambda at: (at / top / "model").touch(),
    ]
    steps += [overwriting(top, number, data(8000)) for number in range(25)]
    steps += [
        lambda at: sync(at / top / "model"),
        lambda at: (at / top / "new").touch(),
        lambda at: write(at / top / "new", 100, late),
        lambda at: (at / top / "new").replace(at / top / "renamed"),
        lambda at: (at / top / "linked").chmod(0o640),
    ]
    return steps


def overwriting(top: str, number: int, data: bytes) -> Operation:
    return lambda at: write(at / top / "model", number % 3 * 100, data)


def write(path: Path, offset: int, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY)
    try:
        assert os.pwrite(descriptor, data, offset) == len(data)
    finally:
        os.close(descriptor)


def sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def tree(top: Path) -> dict[str, object]:
    """All that is there, as a program sees it."""
    return {str(path.relative_to(top)): shown(path) for path in top.rglob("*")}


def shown(path: Path) -> object:
    status = os.lstat(path)
    if path.is_symlink():
        return path.readlink()
    if path.is_dir():
        return oct(status.st_mode)
    xattrs = {name: os.getxattr(path, name) for name in os.listxattr(path)}
    return oct(status.st_mode), status.st_nlink, xattrs, path.read_bytes()


@dataclass(frozen=True, slots=True)
class Place:
    """The `number`th call of that name about one file, in the first thread that makes so many."""

    name: str
    about: str
    """Its path or its name, with `{home}` and `{session}`."""
    number: int


@dataclass(slots=True)
class Rounds:
    """Sessions one after another on one machine, and what must be there."""

    here: Machine
    bucket: Path
    work: Path
    seed: int
    in_flight: list[Operation] = field(default_factory=list)
    count: int = 0
    session: str = ""
    """The id of the last one."""

    @property
    def model(self) -> Path:
        return self.work / "model"

    def run(self, at: Place | None) -> list[Call]:
        """A session that dies there, and the one after it; the calls of the first."""
        self.count += 1
        log = self.work / f"strace-{self.count}"
        session = uuid.UUID(int=random.Random(self.count).getrandbits(128), version=4).hex
        tampering = [] if at is None else [kill_at(Point(at.name, at.number))]
        only = [] if at is None else [at.about.format(home=self.here.home, session=session)]
        self.here.extra = {
            "PYTHONPATH": f"{TRACING}:{ROOT}",
            "PDFS_TEST_STRACE": json.dumps([session, str(log), only, *tampering]),
        }
        is_ended = self._session()
        self.here.extra = {}
        wait_traced(log)
        if is_ended:
            self.check_bucket()
        else:
            self.check_mount()
        self.session = session
        found = [one for place in ("state", "cache") for one in calls(log, self.here.home / place)]
        log.unlink()
        return found

    def places(self, made: list[Call]) -> list[Place]:
        """Where these calls of the last session are, in any session."""
        number: Counter[tuple[int, str, str]] = Counter()
        found = []
        for call in made:
            number[call.thread, call.point.name, call.about] += 1
            about = call.about.replace(str(self.here.home), "{home}")
            about = about.replace(self.session, "{session}")
            count = number[call.thread, call.point.name, call.about]
            found.append(Place(call.point.name, about, count))
        return found

    def _session(self) -> bool:
        """Work until the unmount; False where the daemon died before that was over."""
        here, choice = self.here, random.Random(f"{self.seed} {self.count}")
        if here.run("mount", PROJECT, here.mountpoint, "--create").code != 0:
            return False
        self.in_flight = []
        try:
            for old in here.mountpoint.glob("*/renamed"):
                old.read_bytes()
            for operation in operations(self.count, choice):
                self._carry_out(operation)
            self._write_until_checkpoint(choice)
        except OSError:
            return False
        return here.run("umount", here.mountpoint).code == 0

    def _carry_out(self, operation: Operation) -> None:
        self.in_flight = [operation]
        operation(self.here.mountpoint)
        operation(self.model)
        self.in_flight = []

    def _write_until_checkpoint(self, choice: random.Random) -> None:
        """Go on until the journal has rolled and a checkpoint has replaced its first segment."""
        deadline, number = time.monotonic() + LIMIT, 0
        while list((self.here.home / "state").glob("pdfs/sessions/*/journal-1.wal*")):
            assert time.monotonic() < deadline, "no checkpoint was made"
            self._carry_out(overwriting(f"round {self.count}", number, choice.randbytes(8000)))
            number += 1
            time.sleep(0.05)

    def check_mount(self) -> None:
        """The next mount shows what was acknowledged, and publishes that."""
        mounted = self.here.mount("--create")
        found, expected = tree(mounted), tree(self.model)
        if found != expected:
            for operation in self.in_flight:
                operation(self.model)
            expected = tree(self.model)
        assert found.keys() == expected.keys()
        assert found == expected
        self.here.pdfs("umount", mounted)
        self.check_bucket()

    def check_bucket(self) -> None:
        """Every file is a plain object, and nothing else is."""
        stage = self.bucket / PROJECT / "planning"
        there = {
            str(path.relative_to(stage)): path.read_bytes()
            for path in stage.rglob("*")
            if path.is_file()
        }
        assert there == {
            str(path.relative_to(self.model)): path.read_bytes()
            for path in self.model.rglob("*")
            if path.is_file() and not path.is_symlink()
        }
        assert not self.here.sessions()


def wait_traced(log: Path) -> None:
    """Return when strace has written the end of the daemon, its first process."""
    deadline = time.monotonic() + LIMIT
    first = log.read_text().split(maxsplit=1)[0]
    while not re.search(rf"^{first} +\+\+\+ ", log.read_text(errors="replace"), re.MULTILINE):
        assert time.monotonic() < deadline, "the daemon did not end"
        time.sleep(0.05)


@pytest.mark.figure(name="C2")
@pytest.mark.timeout(7200)
@pytest.mark.skipif(
    LENGTH not in SHARE,
    reason="beside other tests the few places of a sample are not always reached: --full",
)
def test_a_daemon_that_is_killed_before_any_of_its_system_calls_loses_nothing(
    bucket: Bucket, machine: MakeMachine, tmp_path: Path, seed: int, reached: Reached
) -> None:
    assert bucket.directory is not None
    rounds = Rounds(machine(bucket), bucket.directory, tmp_path / "work", seed)
    rounds.model.mkdir(parents=True)
    hit = []
    for place in places(rounds, random.Random(seed)):
        hit += [call for call in rounds.run(place) if not call.is_made]
        shutil.rmtree(rounds.here.home / "cache", ignore_errors=True)
    assert tree(rounds.model), "nothing was acknowledged"
    assert hit, "nothing was killed"
    reached(len(hit), "kills before a system call of a real mount's daemon")
    assert any(call.is_append for call in hit)
    assert any(call.is_segment_rename for call in hit)
    assert any(call.is_directory_sync for call in hit)


def places(rounds: Rounds, choice: random.Random) -> list[Place]:
    """Where to die: one in `SHARE` of all places that an undisturbed session has."""
    share, found = SHARE[LENGTH], rounds.run(None)
    every = list(dict.fromkeys(rounds.places(found)))
    kinds = [
        [place for place in every if place.about.endswith(".__partial__") and place.name == name]
        for name in ("pwritev2", "renameat")
    ]
    kinds.append([place for place in every if (place.name, place.about) == ("fsync", OWN)])
    return [*(choice.choice(kind) for kind in kinds), *every[rounds.seed % share :: share]]
