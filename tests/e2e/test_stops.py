"""Stopped at any point: all is in the bucket, or a whole journal waits here (figure F4).

The points are steps of the daemon, not seconds: requests to the bucket, lines of the session's log,
records of its journal. What was acknowledged is known from a diary outside of the mount.
"""

import json
import os
import random
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.conftest import LENGTH, Reached
from tests.e2e.conftest import MakeMachine
from tests.e2e.diaries import Told
from tests.e2e.machines import LIMIT, PROJECT, Bucket, Machine

TROUBLE = Path(__file__).with_name("trouble")
WORK = Path(__file__).with_name("stopped_work.py")
HOWS = "save save remove"
"""No append: the kernel sends one in parts, at ends of pages, and the daemon may end between."""
KINDS = ("SIGTERM", "SIGINT", "SIGHUP", "logout", "shutdown", "twice")
SHARES, POINTS = LENGTH.pick(sample=(1, 3), full=(10, 20), long=(50, 20))
FAILURES = (
    ("answer", "MemoryError"),
    ("record", "MemoryError"),
    ("note", "RuntimeError"),
    ("record", "SystemExit"),
)


@dataclass(slots=True)
class Stand:
    """A machine whose daemon is stopped again and again, and what has to be there."""

    here: Machine
    bucket: Bucket
    told: Told = field(default_factory=Told)
    ends: list[str] = field(default_factory=list)

    def work(self, number: int, **trouble: object) -> dict[str, int]:
        """One session to the end of its daemon, which has this trouble; how many steps it took."""
        file = self.here.home / f"steps-{number}"
        if not number:
            self.here.mountpoint.rmdir()  # each mount makes its own: no program gets below it
        file.touch()
        self.here.extra |= {
            "PDFS_TEST_TROUBLE": json.dumps({"file": str(file), "at": 0, **trouble}),
            "PYTHONPATH": str(TROUBLE),
            "PDFS_STOP_TIMEOUT": "1",
        }
        diary = self.here.home / f"diary-{number}"
        diary.touch()
        mounted = self.here.run("mount", PROJECT, self.here.mountpoint, "--create", "--resume")
        if mounted.code == 0:
            place = str(self.here.mountpoint)
            work = [sys.executable, str(WORK), place, str(diary), f"p{number}", HOWS]
            subprocess.run(work, check=True, timeout=LIMIT)
            unmount = ["fusermount3", "-u", place]
            subprocess.run(unmount, check=False, stderr=subprocess.DEVNULL)
        self.wait_ended()
        del self.here.extra["PDFS_TEST_TROUBLE"]
        self.told.read(diary)
        taken: dict[str, int] = json.loads(file.read_text())
        return taken

    def wait_ended(self) -> None:
        """Return when the daemon is gone, with all that it started and its mount."""
        deadline = time.monotonic() + LIMIT
        while left := self.processes():
            assert time.monotonic() < deadline, f"these do not end: {left}"
            time.sleep(0.02)
        assert f" {self.here.mountpoint} " not in Path("/proc/self/mountinfo").read_text()
        assert not os.path.lexists(self.here.mountpoint), "what is saved there goes nowhere"

    def processes(self) -> list[str]:
        """Those that belong to this machine."""
        mark, found = f"HOME={self.here.home}".encode(), []
        for pid in filter(str.isdecimal, os.listdir("/proc")):
            try:
                if mark in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                    found.append(f"{pid} {Path(f'/proc/{pid}/cmdline').read_text()}")
            except OSError:
                continue
        return found

    def check(self, *, mounts: bool) -> None:
        """All is in the bucket, or a journal has it from which it is published now."""
        assert self.bucket.directory is not None
        sessions = self.here.sessions()
        self.ends.append("kept" if sessions else "published")
        for session in sessions:
            assert not session["alive"]
            self.here.pdfs("recover", "show", session["session"])
            assert list((self.here.home / "state/pdfs/sessions").iterdir())
            if mounts:
                self.told.check(self.here.mount("--resume"))
                self.here.pdfs("umount", self.here.mountpoint)
            else:
                self.here.pdfs("recover", "resume", session["session"])
        assert self.here.sessions() == []
        assert "is not locked" in self.here.pdfs("lock", "show", PROJECT)
        self.told.check(self.bucket.directory / PROJECT / "planning")


@pytest.mark.figure(name="F4")
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("share", range(SHARES))
def test_a_stop_at_any_point_leaves_all_in_the_bucket_or_in_a_whole_journal(
    share: int,
    bucket: Bucket,
    machine: MakeMachine,
    seed: int,
    is_full: bool,
    reached: Reached,
) -> None:
    choice = random.Random(f"{seed} {share}")
    stand = Stand(machine(bucket), bucket)
    steps = stand.work(0)["any"]
    assert steps > 50, "the points lie too thin"
    stand.check(mounts=False)
    assert stand.ends == ["published"]
    for number in range(1, POINTS + 1):
        at, what = choice.randrange(1, steps), choice.choice(KINDS)
        print(f"point {number}: {what} at step {at} of {steps}")  # noqa: T201 - for who repeats it
        stand.work(number, at=at, what=what)
        stand.check(mounts=choice.random() < 0.5)
    assert stand.told.acknowledged > 30, "next to nothing was acknowledged"
    assert not is_full or len(set(stand.ends)) == 2
    reached(POINTS, "stops")


@pytest.mark.timeout(600)
def test_a_failure_anywhere_in_the_daemon_loses_nothing_and_gives_the_stage_back(
    bucket: Bucket, machine: MakeMachine, seed: int, is_full: bool
) -> None:
    """Also out of memory; in handlers, which answer EIO, and outside of them."""
    choice = random.Random(seed)
    stand = Stand(machine(bucket), bucket)
    steps = stand.work(0)
    stand.check(mounts=False)
    for number in range(1, len(FAILURES) * (5 if is_full else 1) + 1):
        kind, what = FAILURES[number % len(FAILURES)]
        at = choice.randrange(1, steps[kind])
        print(f"failure {number}: {what} at {kind} {at}")  # noqa: T201 - for who repeats it
        stand.work(number, of=kind, at=at, what=what)
        for session in stand.here.sessions():
            shown = stand.here.pdfs("recover", "show", session["session"])
            assert f"the daemon failed: {what}('planted')" in shown
            if "0 operations" not in shown:
                assert "locked by" not in stand.here.pdfs("lock", "show", PROJECT)
        stand.check(mounts=False)
    assert stand.told.acknowledged > 30, "next to nothing was acknowledged"
