"""Recoveries that die at each record and each call, one within the other (C3).

Whatever becomes of them, the next one makes the tree that an undisturbed replay makes: of equal
hash. `test_system_calls.py` kills real processes, but not so many of them.
"""

import random
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from pdfs.core.tree import Tree
from pdfs.local.checkpoint import read_snapshot_state
from pdfs.local.journal_loader import JournalRecord
from pdfs.local.replay import replay_one
from tests.conftest import LENGTH
from tests.local.desk import Memory, opened_session, tree_hash
from tests.local.faulty_disk import Fault, FaultyDisk
from tests.local.journals import SESSION
from tests.local.traced_session import SIZES, work

CHANGING = frozenset(
    {"allocate", "fdatasync", "fsync", "ftruncate", "mkdir", "pwritev", "rename", "unlink"}
)


SOME = {"sample": 1, "full": 4, "long": 12}[LENGTH]
"""At so many of its calls a recovery of a recovery dies."""
FEWEST = 25
"""A recovery that is worth it changes the disk more often."""


class Died(BaseException):
    """Nothing of the process runs any more: no handler of an Exception either."""


class DyingDisk(FaultyDisk):
    """Ends the process before its k-th changing call, or never. Does without real syncs."""

    def _is_due(self, call: str) -> bool:
        if super()._is_due(call):
            raise Died
        return False

    def fdatasync(self, descriptor: int) -> None:
        self._is_due("fdatasync")

    def fsync(self, descriptor: int) -> None:
        self._is_due("fsync")


@dataclass(frozen=True, slots=True)
class Crashed:
    """A session whose process died, as it left its directory."""

    root: Path
    memory: Memory
    last: int
    """The last record that it had acknowledged."""

    def hash(self, root: Path) -> str:
        return tree_hash(root, self.memory.bucket, DyingDisk())


async def crashed_in(root: Path, seed: int) -> Crashed:
    """One that has made checkpoints; it has records behind the last one."""
    memory, told = Memory(), list[str]()
    with opened_session(root, DyingDisk(), sizes=SIZES) as opened:
        await work(opened, memory, seed, 75, told.append)
        found = read_snapshot_state(DyingDisk(), opened.directory.descriptor, SESSION)
        assert found is not None
        assert 0 < found.after < int(told[-1]) - 10
    return Crashed(root, memory, int(told[-1]))


def files_in(root: Path) -> dict[str, bytes]:
    """Every file there, byte for byte."""
    return {
        str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()
    }


def recovered(root: Path, *, dies_at: int = 0) -> bool:
    """Recover what is there; False where the process died at that call, or at a record."""
    disk = DyingDisk(Fault(at=dies_at or 1_000_000, for_ever=True, calls=CHANGING))
    try:
        with opened_session(root, disk, sizes=SIZES, fence=9):
            return True
    except Died:
        return False


def calls_of_recovery(crashed: Crashed, quiet: Path) -> range:
    """The numbers of its calls that change the disk, when it recovers undisturbed in `quiet`."""
    shutil.copytree(crashed.root, quiet)
    disk = DyingDisk()
    with opened_session(quiet, disk, sizes=SIZES, fence=9):
        return range(1, 1 + sum(call in CHANGING for call in disk.made))


async def crashed_with_much_to_recover(scenes: Path, seed: int) -> tuple[Crashed, Path, range]:
    """A crashed session, where it was recovered undisturbed, and the calls that took."""
    for number in range(8):  # one seed in fifteen leaves nothing that is to be copied
        crashed = await crashed_in(scenes / f"root-{number}", seed + number)
        quiet = scenes / f"quiet-{number}"
        calls = calls_of_recovery(crashed, quiet)
        if len(calls) > FEWEST:
            return crashed, quiet, calls
    pytest.fail("eight seeds, and no recovery had much to do")


@pytest.mark.figure(name="C3")
async def test_a_replay_that_dies_at_any_record_has_changed_nothing(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    crashed = await crashed_in(tmp_path / "root", seed)
    files, expected = files_in(crashed.root), crashed.hash(crashed.root)
    died = left = 0

    def dies(tree: Tree, record: JournalRecord) -> None:
        nonlocal left
        if left == 0:
            raise Died
        left -= 1
        replay_one(tree, record)

    def dies_at(number: int) -> bool:
        nonlocal left
        left = number
        with monkeypatch.context() as patch:
            patch.setattr("pdfs.local.checkpoint.replay_one", dies)
            return not recovered(crashed.root)

    while dies_at(died):
        died += 1
        assert files_in(crashed.root) == files
        assert crashed.hash(crashed.root) == expected
    assert died > 10


async def test_a_replay_that_is_repeated_changes_nothing(tmp_path: Path, seed: int) -> None:
    """Neither a file nor the tree; nor does a recovery, beyond what nobody had open any more."""
    crashed = await crashed_in(tmp_path / "root", seed)
    files, once = files_in(crashed.root), crashed.hash(crashed.root)
    assert (crashed.hash(crashed.root), files_in(crashed.root)) == (once, files)
    assert recovered(crashed.root)
    first = crashed.hash(crashed.root)
    assert recovered(crashed.root)
    assert crashed.hash(crashed.root) == first
    with opened_session(crashed.root, fence=9) as opened:
        assert not opened.ledger.tree.orphans


@pytest.mark.figure(name="C3")
async def test_recoveries_that_die_three_deep_end_as_an_undisturbed_one(
    tmp_path: Path, seed: int
) -> None:
    """The first at each of its calls, the second and third at some of theirs."""
    crashed, quiet, calls = await crashed_with_much_to_recover(tmp_path, seed)
    expected = crashed.hash(quiet)
    choice, deaths = random.Random(seed), [0, 0, 0]

    def die(root: Path, depth: int) -> None:
        """Die at the calls of a recovery of `root`, each time beginning with the same files."""
        scene = tmp_path / f"{depth}"
        for at in calls if depth == 0 else choice.sample(calls, SOME):
            shutil.rmtree(scene, ignore_errors=True)
            shutil.copytree(root, scene)
            deaths[depth] += not recovered(scene, dies_at=at)
            if depth < 2:
                die(scene, depth + 1)
            else:
                assert recovered(scene)
                assert crashed.hash(scene) == expected, (at, deaths)

    die(crashed.root, 0)
    assert deaths[0] == len(calls)
    assert deaths[2] > 15
