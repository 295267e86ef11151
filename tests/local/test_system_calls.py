"""kill -9 before the k-th system call of a session on this machine, and of its recovery (C2, C3).

The process is real and so is its death; strace deals it. It has one thread, so the calls that its
undisturbed run made are all the points there are. The oracle is the same work, done once more by
the test itself, and what the dying process said of each record that it acknowledged.
"""

import random
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from pdfs.disk import OsDisk
from tests.conftest import LENGTH, Reached
from tests.local.desk import Left, Memory, left_in, opened_session, tree_hash
from tests.local.strace import Call, Point, calls, kill_at
from tests.local.traced_session import SIZES, live, work

ROOT = Path(__file__).parents[2]
COUNT = 60
"""Operations of a session; with rolls and two checkpoints some 280 calls."""
SHARE = {"sample": 70, "full": 5, "long": 1}[LENGTH]
"""One in so many points."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A process that worked on `root` under strace."""

    root: Path
    code: int
    told: list[str]
    calls: list[Call]

    @property
    def acknowledged(self) -> int:
        """The number of the last record that it said it has; 0 before the first."""
        return max((int(word) for word in self.told if word.isdecimal()), default=0)


def run(what: str, root: Path, seed: int, at: Point | None = None) -> Ended:
    """Let a process do that at `root` under strace, and die there."""
    root.mkdir(exist_ok=True)
    log = root.with_name(f"{root.name}.strace")
    log.unlink(missing_ok=True)
    tampering = [] if at is None else [f"--tamper={kill_at(at)}"]
    done = subprocess.run(
        [
            *(sys.executable, "-m", "tests.local.traced_session", what, root, log),
            *(f"--seed={seed}", f"--count={COUNT}", *tampering),
        ],
        cwd=ROOT,
        stdout=subprocess.PIPE,  # strace has it, too: it has ended when this is closed
        text=True,
        check=False,
    )
    return Ended(root, done.returncode, done.stdout.split("\n")[:-1], calls(log, root))


def sample(points: Sequence[Call], seed: int) -> list[Call]:
    """One in `SHARE`, other ones with each seed, and some of each kind that C2 names."""
    choice = random.Random(seed)
    kinds = (
        [call for call in points if call.is_append],
        [call for call in points if call.is_segment_rename],
        [call for call in points if call.is_directory_sync],
    )
    named = [choice.choice(kind) for kind in kinds] if SHARE > 1 else []
    return [*named, *points[seed % SHARE :: SHARE]]


@pytest.mark.figure(name="C2")
async def test_a_session_that_is_killed_before_any_of_its_system_calls_loses_nothing(
    tmp_path: Path, seed: int, reached: Reached
) -> None:
    memory = Memory()
    await live(tmp_path / "model", memory, seed, COUNT, lambda _: None)
    whole = run("live", tmp_path / "whole", seed)
    assert whole.code == 0
    assert whole.acknowledged >= COUNT
    hit = []
    for call in sample(whole.calls, seed):
        ended = run("live", tmp_path / "killed", seed, call.point)
        hit.append(ended.calls[-1])
        assert (hit[-1].point, hit[-1].is_made) == (call.point, False)
        assert len(ended.calls) == whole.calls.index(call) + 1, "it is the same work"
        check(ended, memory)
        shutil.rmtree(ended.root)
    assert any(call.is_append for call in hit)
    assert any(call.is_segment_rename for call in hit)
    assert any(call.is_directory_sync for call in hit)
    reached(len(hit), "kills before a system call of a session's journal")


def check(ended: Ended, memory: Memory) -> None:
    """What is there is what was acknowledged, with or without the operation in flight."""
    where, told = ended.calls[-1], ended.acknowledged
    left = left_in(ended.root, memory.bucket)
    if left is None:
        assert told == 0 or ended.told[-1] == "ending", where
        return
    assert told <= left.last <= told + 1, where
    check_left(left, memory, left.last)
    with opened_session(ended.root, fence=2) as opened:
        last = opened.ledger.last
    again = left_in(ended.root, memory.bucket)
    assert again is not None
    assert again.last == last
    check_left(again, memory, left.last)


def check_left(left: Left, memory: Memory, number: int) -> None:
    assert not left.recovered.damage
    assert left.shown == memory.history[number]


@pytest.mark.figure(name="C3")
async def test_recoveries_that_are_killed_one_after_another_lose_nothing(
    tmp_path: Path, seed: int, reached: Reached
) -> None:
    """Three deep; the first before each of its calls, the next two wherever that finds them."""
    memory, choice = Memory(), random.Random(seed)
    with opened_session(tmp_path / "left", sizes=SIZES) as opened:
        await work(opened, memory, seed, COUNT, lambda _: None)
        last = opened.ledger.last
    whole = recovery_of(tmp_path / "left", tmp_path / "whole", seed)
    assert whole.code == 0
    share = min(SHARE, 25)
    expected = tree_hash(whole.root, memory.bucket, OsDisk())
    hit = 0
    for call in whole.calls[seed % share :: share]:
        first = recovery_of(tmp_path / "left", tmp_path / "killed", seed, call.point)
        assert (first.calls[-1].point, first.calls[-1].is_made) == (call.point, False)
        for depth in range(2):
            then = run("recover", first.root, seed + depth, choice.choice(whole.calls).point)
            hit += not then.calls[-1].is_made
        left = left_in(first.root, memory.bucket)
        assert left is not None
        check_left(left, memory, last)
        with opened_session(first.root, sizes=SIZES, fence=9):
            pass
        assert tree_hash(first.root, memory.bucket, OsDisk()) == expected
        shutil.rmtree(first.root)
    assert hit > 0
    reached(hit, "kills of recoveries after a killed one")


def recovery_of(left: Path, root: Path, seed: int, at: Point | None = None) -> Ended:
    """Recover a copy of what was left, and die there."""
    shutil.copytree(left, root)
    return run("recover", root, seed, at)
