"""The power goes at any moment: what is left replays as a prefix with all that was synced (C4)."""

import random
from pathlib import Path

import pytest

from pdfs.local.sizes import ALONE
from tests.conftest import Reached
from tests.lengths import Length
from tests.local.crashing_disk import CrashingDisk, PowerCuts, State, materialize, pending
from tests.local.journals import replay
from tests.local.witness import SMALL, Witness, random_steps


@pytest.mark.figure(name="C4")
@pytest.mark.timeout(1200)
def test_after_any_power_cut_the_journal_is_a_prefix_with_all_that_was_synced(
    tmp_path: Path, seed: int, length: Length, reached: Reached
) -> None:
    checked = beyond = torn = 0
    for number in range(length.pick(sample=6, full=6, long=36)):
        root = tmp_path / str(number)
        root.mkdir()
        witness = Witness(CrashingDisk(root))
        sizes = SMALL if number % 2 else ALONE
        witness.run(root, steps=random_steps(seed + number), seed=seed, sizes=sizes)
        assert witness.is_closed
        cuts = PowerCuts(witness.disk, seed)
        for cut, state in cuts.states(per_cut=length.pick(sample=12, full=None, long=None)):
            materialize(state, tmp_path / "cut")
            result = replay(tmp_path / "cut")
            count = len(result.records)
            assert result.records == witness.acknowledged[:count], (number, cut)
            assert count >= witness.promised(cut), (number, cut)
            assert result.end.damage is None, (number, cut)
            checked += 1
            beyond += count > witness.promised(cut)
            torn += result.end.torn_tail is not None
    reached(checked, "states of a disk")
    assert checked >= length.pick(sample=2000, full=2000, long=50_000)
    assert beyond > checked // 10, "the cuts dropped all that was not synced: too kind a test"
    assert torn > checked // 10


@pytest.mark.figure(name="C4")
@pytest.mark.timeout(1200)
def test_crash_after_crash_loses_nothing_and_uses_no_number_twice(
    tmp_path: Path, seed: int, length: Length, reached: Reached
) -> None:
    """Each run goes on above all numbers of the one before, whose files may still lie there."""
    rounds = length.pick(sample=20, full=400, long=4_000)
    reached(3 * rounds, "crashes, three in a row")
    for number in range(seed, seed + rounds):
        choice = random.Random(number)
        kept: State = {}
        last = segment = 0
        for depth in range(3):
            root = tmp_path / f"{number}-{depth}"
            root.mkdir()
            witness = Witness(CrashingDisk(root))
            steps = random_steps(choice.randrange(1 << 30), 12)
            witness.run(
                root,
                steps,
                number,
                segment=segment + 2,
                first_sequence=last + 1,
                sizes=choice.choice([SMALL, ALONE]),
            )
            cut, state = choice.choice(list(PowerCuts(witness.disk, number).states(per_cut=4)))
            materialize({**kept, **state}, tmp_path / "cut")
            result = replay(tmp_path / "cut", after=last, through=segment + 1)
            count = len(result.records)
            assert result.records == witness.acknowledged[:count], (number, depth)
            assert last + count >= witness.promised(cut), (number, depth)
            assert result.end.damage is None, (number, depth)
            last, segment = result.end.highest_sequence, max(segment, result.highest_segment)
            kept = {**kept, **state} if choice.random() < 0.5 else {}


def test_nothing_is_left_to_chance_after_a_clean_close(tmp_path: Path) -> None:
    witness = Witness(CrashingDisk(tmp_path))
    witness.run(tmp_path)
    assert pending(witness.disk.log) == []


def test_every_record_counts_as_lost_until_a_sync_has_returned(tmp_path: Path) -> None:
    """The crashing disk itself: without syncs it must be able to lose everything."""
    root, cut_down = tmp_path / "journal", tmp_path / "cut"
    root.mkdir()
    witness = Witness(CrashingDisk(root))
    witness.run(root, steps=("append",) * 10)
    counts = set()
    for cut, state in PowerCuts(witness.disk, 0).states():
        if cut == len(witness.disk.log):
            materialize(state, cut_down)
            counts.add(len(replay(cut_down).records))
    assert counts == set(range(11))
