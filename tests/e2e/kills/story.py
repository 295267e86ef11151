"""One stage through many kills of its daemon, one after another, and what is there after each.

Each kill comes amid one of four things, at a moment that chance chooses in terms of what was done,
not of seconds: amid work, after so many acknowledged operations; amid a mount that recovers, after
a part of the time that the last one took; amid an unmount's publish, when so much of it has reached
the bucket; amid such a publish while programs write on. Most kills have another one before the next
publish.
"""

import contextlib
import hashlib
import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

from tests.e2e.kills.diary import Told, read_diary
from tests.e2e.kills.workloads import MOUNT_IS_GONE, WORKLOADS
from tests.e2e.machines import LIMIT, PDFS, PROJECT, ROOT, Bucket, Machine, end_process
from tests.fuse.test_tools import picture

SMALL = Path(__file__).with_name("small")
NOTHING = Told()
FILE = "0o100"
"""How the mode of a regular file begins."""
MOST_OPERATIONS = {"append": 300, "save": 400, "sqlite": 60, "git": 120, "untar": 250}
"""Acknowledged before a kill."""


class Story:
    """`machine` mounts; `elsewhere` is another one, which sees only what the bucket has."""

    def __init__(
        self, workload: str, machine: Machine, elsewhere: Machine, outside: Path, name: str
    ) -> None:
        """All chance comes from `name`."""
        self._kind = workload
        self._choice = random.Random(name)
        self._name = name
        self._machine = machine
        self._elsewhere = elsewhere
        self._outside = outside
        outside.mkdir()
        self._workload = WORKLOADS[workload](outside)
        self._mount_time = 0.0
        self._runs = 0
        self.kills: Counter[str] = Counter()
        """By what they came amid."""
        self.in_flight = 0
        """Operations that a kill found begun and not ended."""
        self.acknowledged = 0

    @property
    def top(self) -> Path:
        """Where the work is."""
        return self._machine.mountpoint / "work"

    def tell(self, kills: int) -> None:
        """So many kills, then an orderly end."""
        self._mount("--create")
        self.top.mkdir()
        self._workload.prepare(self.top)
        while self.kills.total() < kills:
            told = self._work_until_killed(publishes=self._choice.random() < 0.3)
            if self.kills.total() < kills and self._choice.random() < 0.3:
                self._mount_until_killed()
            self._mount_and_check(told)
            if self.kills.total() < kills and self._choice.random() < 0.4:
                (session,) = self._machine.sessions()
                if moment := self._publish_until_killed("umount", session["pid"]):
                    self.kills[moment] += 1  # else it was faster
                self._mount_and_check(NOTHING)
        self._end()

    def _mount_and_check(self, told: Told) -> None:
        self._mount()
        self._workload.check(self.top, told)

    def _mount(self, *options: str) -> None:
        begun = time.monotonic()
        self._machine.mount(*options)
        self._mount_time = time.monotonic() - begun
        assert self._machine.mountpoint.is_mount()

    # --- amid work

    def _work_until_killed(self, *, publishes: bool) -> Told:
        """The kill comes after so many operations, and up to twice the time that one takes; with
        `publishes`, amid a publish that begins then."""
        self._runs += 1
        diary = self._outside / f"diary-{self._runs}"
        diary.touch()
        wanted = self._choice.randrange(1, MOST_OPERATIONS[self._kind])
        (session,) = self._machine.sessions()
        command = [sys.executable, "-m", "tests.e2e.kills.workloads", self._kind]
        arguments = [str(self.top), str(self._outside), str(diary), f"{self._name} {self._runs}"]
        with (
            Acknowledged(diary) as acknowledged,
            subprocess.Popen(
                [*command, *arguments], cwd=ROOT, stderr=subprocess.PIPE, text=True
            ) as working,
        ):
            begun = time.monotonic()
            wait_until(lambda: acknowledged.count() >= wanted or working.poll() is not None)
            time.sleep(self._choice.random() * 2 * (time.monotonic() - begun) / wanted)
            if publishes:
                moment = self._publish_until_killed("publish", session["pid"])
            else:
                end_process(session["pid"])
                moment = "amid work"
            _, said = working.communicate(timeout=LIMIT)
        assert working.returncode == MOUNT_IS_GONE, said
        told = read_diary(diary)
        assert len(told.acknowledged) >= wanted, f"the work ended by itself: {said}"
        self.kills[moment or "right after a publish beside work"] += 1
        self.acknowledged += len(told.acknowledged)
        self.in_flight += len(told.in_flight)
        return told

    # --- amid a mount

    def _mount_until_killed(self) -> None:
        """The daemon that recovers is killed after a part of the time that the last one took."""
        moment = self._choice.random() * 1.2 * self._mount_time
        with self._started("mount", PROJECT) as mounting:
            begun = time.monotonic()
            wait_until(lambda: any(daemons(self._machine)) or mounting.poll() is not None)
            time.sleep(max(0.0, moment - (time.monotonic() - begun)))
            killed = list(daemons(self._machine))
            for pid in killed:
                end_process(pid)
            _, said = mounting.communicate(timeout=LIMIT)
        assert killed, f"no daemon came up ({mounting.returncode}): {said}"
        self.kills["amid a mount" if mounting.returncode else "right after a mount"] += 1

    # --- amid a publish

    def _publish_until_killed(self, command: str, pid: int) -> str:
        """The daemon that publishes is killed when so much of it has reached the bucket.

        Returns amid what; nothing where the publish was over before.
        """
        progress = Progress(self._machine.bucket, self._choice)
        with self._started(command) as publishing:
            wait_until(lambda: progress.is_due() or publishing.poll() is not None)
            end_process(pid)
            publishing.communicate(timeout=LIMIT)
        what = "a publish" if command == "umount" else "a publish beside work"
        return f"amid {what}, {progress.state}" if publishing.returncode else ""

    def _started(self, *command: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [PDFS, *command, self._machine.mountpoint],
            env=self._machine.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    # --- the end

    def _end(self) -> None:
        """Unmount; the bucket, and another machine, have exactly what was there."""
        before = picture(self.top)
        self._machine.pdfs("umount", self._machine.mountpoint)
        files = {name: seen[2] for name, seen in before.items() if str(seen[0]).startswith(FILE)}
        assert contents(plain_directory(self._machine.bucket) / "work") == files
        self._elsewhere.mount()
        assert picture(self._elsewhere.mountpoint / "work") == before
        self._workload.check(self._elsewhere.mountpoint / "work", NOTHING)
        self._elsewhere.pdfs("umount", self._elsewhere.mountpoint)
        assert "is not locked" in self._machine.pdfs("lock", "show", PROJECT)


class Acknowledged:
    """Follows a diary while it is written."""

    def __init__(self, diary: Path) -> None:
        self._file = diary.open("rb")
        self._rest = b""
        self._count = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def count(self) -> int:
        """Operations that have ended so far."""
        *lines, self._rest = (self._rest + self._file.read()).split(b"\n")
        self._count += sum(b"," not in line for line in lines)
        return self._count


class Progress:
    """How far a publish has come, as a directory that plays the bucket shows it."""

    def __init__(self, bucket: Bucket, choice: random.Random) -> None:
        self._plain = plain_directory(bucket)
        self._internal = self._plain.parent / ".pdfs" / self._plain.name
        self._before = self._root(), self._contents(), self._plain_files()
        most = max(2, len(self._before[2]))
        self._wanted = choice.choice(["staged", "committed", "applied", "applied"])
        self._applied = choice.randrange(1, most)

    def is_due(self) -> bool:
        """The moment that chance has chosen has come."""
        match self._wanted:
            case "staged":
                return self._contents() != self._before[1]
            case "committed":
                return self.state != "before its commit"
            case _:
                return len(self._plain_files() - self._before[2]) >= self._applied

    @property
    def state(self) -> str:
        """On which side of the commit point it is."""
        root = self._root()
        if root.get("generation") == self._before[0].get("generation"):
            return "before its commit"
        return "after its commit" if root.get("plan") else "settled"

    def _root(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self._internal / "root.json").read_bytes())
        return found

    def _contents(self) -> set[str]:
        directory = self._internal / "contents"
        return set(os.listdir(directory)) if directory.exists() else set()

    def _plain_files(self) -> set[tuple[str, int]]:
        return {
            (directory, entry.inode())
            for directory, _, _ in os.walk(self._plain)
            for entry in os.scandir(directory)
        }


def plain_directory(bucket: Bucket) -> Path:
    """Where a directory that plays the bucket has the files of the stage."""
    assert bucket.directory is not None
    return bucket.directory / PROJECT / "planning"


def contents(directory: Path) -> dict[str, str]:
    """The digest of each file."""
    return {
        str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in directory.rglob("*")
        if path.is_file()
    }


def daemons(machine: Machine) -> Iterator[int]:
    """Process ids of those that serve a mount on it, or are about to."""
    mark = f"XDG_STATE_HOME={machine.home / 'state'}".encode()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (process / "cmdline").read_bytes().split(b"\0")
            if b"pdfs.mount" in words and mark in (process / "environ").read_bytes().split(b"\0"):
                yield int(process.name)


def wait_until(is_so: Callable[[], bool]) -> None:
    """Return when it is so; looks all the time."""
    deadline = time.monotonic() + LIMIT
    while not is_so():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.0005)
