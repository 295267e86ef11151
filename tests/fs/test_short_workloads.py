"""All workloads of one and two operations, some of three, a crash at every moment of them (C5)."""

import os
import random
import shutil
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

import pytest

from pdfs.core import snapshot
from pdfs.core.ids import TOP, Sequence, SessionId
from pdfs.core.record import Record
from pdfs.disk import Buffer, OsDisk
from pdfs.fs.error import FsError
from pdfs.fs.plan import Change
from pdfs.local.ledger import Ledger
from pdfs.local.recovery import recover
from pdfs.local.state import StateDirectory
from tests.conftest import Reached
from tests.fs.sessions import SESSION, empty_tree, inline, ledger_of
from tests.fs.stage import Stage
from tests.lengths import Length
from tests.local.crashing_disk import CrashingDisk, PowerCuts, materialize


def write(stage: Stage, path: str, offset: int, data: bytes) -> None:
    handle = stage.open(path, os.O_RDWR)
    stage.pwrite(handle, data, offset)
    stage.close(handle)


async def fsync(stage: Stage) -> None:
    handle = stage.open("f")
    await stage.fs.fsync(handle)
    stage.close(handle)


async def fsyncdir(stage: Stage) -> None:
    handle = stage.fs.opendir(TOP)
    await stage.fs.fsyncdir(handle)
    stage.fs.releasedir(handle)


OPERATIONS: dict[str, Callable[[Stage], object]] = {
    "create": lambda stage: stage.write_file("new", b""),
    "write": lambda stage: stage.write_file("new", b"written"),
    "append": lambda stage: write(stage, "f", stage.stat("f").size, b"appended"),
    "overwrite": lambda stage: write(stage, "f", 2, b"OVER"),
    "truncate": lambda stage: stage.truncate("f", 3),
    "rename": lambda stage: stage.rename("f", "moved"),
    "rename over": lambda stage: stage.rename("f", "g"),
    "unlink": lambda stage: stage.unlink("f"),
    "link": lambda stage: stage.link("g", "another"),
    "symlink": lambda stage: stage.symlink("f", "sign"),
    "mkdir": lambda stage: stage.mkdir("folder"),
    "rmdir": lambda stage: stage.rmdir("d"),
    "chmod": lambda stage: stage.chmod("g", 0o600),
    "utimens": lambda stage: stage.change("g", Change(atime=1, mtime=2)),
    "setxattr": lambda stage: stage.setxattr("g", "user.x", b"value"),
    "fsync": fsync,
    "fsyncdir": fsyncdir,
}


@dataclass(slots=True)
class Witness:
    """What a session was told, and what its tree was after each record."""

    disk: CrashingDisk
    trees: dict[int, bytes] = field(default_factory=dict)
    acknowledged: list[tuple[int, int]] = field(default_factory=list)
    synced: list[tuple[int, int]] = field(default_factory=list)

    def watch(self, ledger: Ledger) -> None:
        commit = ledger.commit

        def watched(record: Record, data: Buffer = b"") -> Sequence:
            sequence = commit(record, data)
            self.trees[sequence] = snapshot.encode(ledger.tree)
            return sequence

        ledger.commit = watched  # type: ignore[method-assign]  # it only listens
        self.trees[ledger.last] = snapshot.encode(ledger.tree)

    def note(self, ledger: Ledger, *, is_synced: bool) -> None:
        self.acknowledged.append((len(self.disk.log), ledger.last))
        if is_synced:
            self.synced.append((len(self.disk.log), ledger.last))


async def carry_out(root: Path, names: tuple[str, ...]) -> tuple[Witness, int]:
    """The session, and how many events there were before it."""
    witness = Witness(CrashingDisk(root))
    with ledger_of(root, empty_tree, run_blocking=inline, disk=witness.disk) as ledger:
        stage = Stage(ledger, witness.disk, {})
        witness.watch(ledger)
        stage.write_file("f", b"before f")
        stage.write_file("g", b"before g")
        stage.mkdir("d")
        await ledger.sync()
        witness.note(ledger, is_synced=True)
        begun = len(witness.disk.log)
        for name in names:
            try:
                done = OPERATIONS[name](stage)
                if isinstance(done, Awaitable):
                    await done
            except (FsError, FileNotFoundError):
                continue  # the one before has taken away what it needs
            witness.note(ledger, is_synced=name.startswith("fsync"))
    return witness, begun


def left_in(root: Path) -> tuple[int, bytes]:
    """The last record that is recovered, and the tree."""
    with (
        StateDirectory(OsDisk(), root) as state,
        state.open_session(SessionId(SESSION)) as directory,
    ):
        recovered = recover(OsDisk(), directory)
    assert recovered is not None
    assert not recovered.damage
    return recovered.end.last_sequence, snapshot.encode(recovered.tree)


def promised(notes: list[tuple[int, int]], events: int) -> int:
    return max(sequence for when, sequence in notes if when <= events)


def check_every_crash(witness: Witness, begun: int, cut_down: Path, seed: int) -> int:
    checked, dead = 0, set[int]()
    for cut, state in PowerCuts(witness.disk, seed, tears=2).states(per_cut=3, since=begun):
        materialize(state, cut_down)
        last, tree = left_in(cut_down)
        assert tree == witness.trees[last]
        assert last >= promised(witness.synced, cut)
        if cut not in dead:  # the first state of each misses nothing: only the process died
            dead.add(cut)
            assert last >= promised(witness.acknowledged, cut)
        checked += 1
    return checked


@pytest.mark.figure(name="C5")
@pytest.mark.parametrize("name", OPERATIONS)
async def test_a_crash_at_any_moment_of_one_operation_leaves_it_whole_or_absent(
    name: str, tmp_path: Path, seed: int
) -> None:
    root = tmp_path / "root"
    root.mkdir()
    witness, begun = await carry_out(root, (name,))
    assert len(witness.acknowledged) == 2, "it was not carried out"
    assert check_every_crash(witness, begun, tmp_path / "cut", seed)


@pytest.mark.figure(name="C5")
@pytest.mark.timeout(1200)
async def test_a_crash_at_any_moment_of_two_operations_leaves_a_prefix(
    tmp_path: Path, seed: int, is_full: bool, reached: Reached
) -> None:
    pairs = list(product(OPERATIONS, repeat=2))
    chosen = pairs if is_full else random.Random(seed).sample(pairs, 40)
    reached(len(chosen), "workloads of two operations")
    await check_workloads(chosen, tmp_path, seed)


@pytest.mark.figure(name="C5")
async def test_a_crash_at_any_moment_of_three_operations_leaves_a_prefix(
    tmp_path: Path, seed: int, length: Length, reached: Reached
) -> None:
    triples = list(product(OPERATIONS, repeat=3))
    count = length.pick(sample=5, full=50, long=len(triples))
    reached(count, "workloads of three operations")
    await check_workloads(random.Random(seed).sample(triples, count), tmp_path, seed)


async def check_workloads(chosen: list[tuple[str, ...]], tmp_path: Path, seed: int) -> None:
    """Each of them, with a crash at every moment."""
    checked = done = 0
    for number, names in enumerate(chosen):
        root = tmp_path / str(number)
        root.mkdir()
        witness, begun = await carry_out(root, names)
        done += len(witness.acknowledged) - 1
        checked += check_every_crash(witness, begun, tmp_path / "cut", seed)
        shutil.rmtree(root)
    assert done > len(chosen) * 1.5
    assert checked > 2 * len(chosen)
