"""The protocol of Start, Commit, Apply and Settle under every fault, on a virtual clock.

No threads, no sockets, no disk: everything is drawn from one seed, and the same seed gives the same
run to the last request. Each run is judged from outside by `oracle`.
"""

import hashlib
import os
import random
import subprocess
import sys
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, TypeVar

import pytest
import trio
from trio.testing import MockClock

from pdfs.store.faulty import READ_FATES, WRITE_FATES, Fate
from pdfs.store.objects import Traits
from pdfs.store.step import Step
from tests.simulation.crowd import Weather, edit_alone, meet
from tests.simulation.story import Fault, tell, tell_of_a_cut
from tests.simulation.world import AWS, R2, World

T = TypeVar("T")

READS = {
    Step.START_READ_LOCK,
    Step.START_READ_ROOT,
    Step.LOAD_TREE,
    Step.LOAD_LISTING,
    Step.LOAD_STRANGER,
    Step.FETCH,
    Step.APPLY_READ,
    Step.APPLY_CHECK_ROOT,
    Step.APPLY_JUDGE,
    Step.APPLY_VERIFY,
}
VERIFIED_WRITES = {
    Step.STAGE_CONTENT,
    Step.COMMIT_TREE,
    Step.COMMIT_PLAN,
    Step.APPLY_PUT,
    Step.APPLY_CONFLICT,
    Step.SETTLE_TREE,
}
WEATHERS = (
    Weather(faults=0.0, crashes=0.0),
    Weather(faults=0.02, crashes=0.2),
    Weather(faults=0.1, crashes=0.1),
    Weather(faults=0.3, crashes=0.02),
)


def simulate(seed: int, run: Callable[..., Coroutine[Any, Any, T]], *args: object) -> T:
    """Run under trio with an order of tasks that depends on `seed` alone."""
    # Trio asks this generator alone once scheduling is deterministic, as for Hypothesis.
    trio._core._run._r.seed(seed)
    setattr(trio._core._run, "_ALLOW_DETERMINISTIC_SCHEDULING", True)  # noqa: B010 - it is Final
    return trio.run(partial(run, *args), clock=MockClock(autojump_threshold=0))


def fates_of(step: Step) -> list[Fate]:
    """The faults that a request of this step can suffer."""
    fates = set(READ_FATES if step in READS else WRITE_FATES)
    if step in VERIFIED_WRITES:
        fates.add(Fate.DAMAGED)
    return sorted(fates)


CELLS = [(step, fate) for step in Step for fate in fates_of(step)]


def test_every_fault_at_every_step_leaves_everything_that_was_written(
    seed: int, is_full: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    hits = dict.fromkeys(CELLS, 0)
    for number, (step, fate) in enumerate(CELLS):
        variants = [(AWS, 1), (R2, 1), (AWS, 2), (R2, 3)]
        shift = (seed + number) % len(variants)
        for traits, occurrence in variants[shift:] + variants[:shift]:
            fault = Fault(step, fate, occurrence)
            told_seed = seed + number
            try:
                simulate(told_seed, tell, told_seed, traits, fault)
            except BaseException as error:
                error.add_note(f"{step=!s} {fate=!s} {occurrence=} seed={told_seed} {traits=}")
                raise
            hits[step, fate] += fault.hit
            if fault.hit and not is_full:
                break
    with capsys.disabled():
        sys.stdout.write(f"\n{_table(hits)}\n")
    missed = [f"{step} × {fate}" for (step, fate), count in hits.items() if not count]
    assert not missed, f"never hit: {missed}"


def _table(hits: dict[tuple[Step, Fate], int]) -> str:
    """Hits by step (rows) and fault (columns); `·` where the fault can't be."""
    fates = [fate for fate in Fate if fate is not Fate.FINE]
    rows = [" " * 32 + "".join(f"{fate:>15}" for fate in fates)]
    for step in Step:
        cells = [str(hits[step, fate]) if (step, fate) in hits else "·" for fate in fates]
        rows.append(f"{step:<32}" + "".join(f"{cell:>15}" for cell in cells))
    return "\n".join(rows)


@pytest.mark.parametrize("weather", WEATHERS, ids=lambda weather: f"{weather.faults:.0%}")
@pytest.mark.parametrize("traits", [AWS, R2], ids=["aws", "r2"])
def test_machines_and_another_tool_at_once_lose_nothing_in_any_weather(
    seed: int, is_full: bool, weather: Weather, traits: Traits
) -> None:
    saved = 0
    for number in range(100 if is_full else 4):
        try:
            saved += len(simulate(seed + number, meet, seed + number, traits, weather).completed)
        except BaseException as error:
            error.add_note(f"seed={seed + number} {weather=} {traits=}")
            raise
    assert saved, "no session was ever called saved: nothing was tested"


def test_a_machine_cut_off_at_any_step_and_taken_over_publishes_nothing_stale(
    seed: int, is_full: bool
) -> None:
    cut = set()
    for number, step in enumerate(Step):
        for round_number in range(20 if is_full else 1):
            told_seed = seed + 100 * round_number + number
            try:
                traits = (AWS, R2)[told_seed % 2]
                if simulate(told_seed, tell_of_a_cut, told_seed, traits, step):
                    cut.add(step)
            except BaseException as error:
                error.add_note(f"{step=!s} seed={told_seed}")
                raise
    always = {Step.START_WRITE_ROOT, Step.COMMIT_ROOT, Step.APPLY_PUT, Step.SETTLE_ROOT}
    assert cut >= always, f"nobody was cut off at {always - cut}"


def history_of(world: World) -> str:
    """Everything that ever happened to the bucket, as one digest."""
    digest = hashlib.sha256()
    for change in world.store.history:
        body = None if change.stored is None else change.stored.etag
        digest.update(repr((change.time, change.key, body)).encode())
    return digest.hexdigest()


def test_a_seed_replays_exactly_whatever_the_hash_seed(seed: int) -> None:
    program = (
        "from tests.simulation.test_protocol import *\n"
        f"print(history_of(simulate({seed}, meet, {seed}, R2, WEATHERS[2])))"
    )
    histories = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.getcwd()},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for hash_seed in ("1", "2", "1")
    }
    assert len(histories) == 1
    assert len(histories.pop().strip()) == 64


def test_another_seed_gives_another_run() -> None:
    runs = {history_of(simulate(seed, meet, seed, AWS, WEATHERS[1])) for seed in range(3)}
    assert len(runs) == 3


def test_one_user_on_one_machine_never_loses_the_stage_to_himself(seed: int, is_full: bool) -> None:
    rng = random.Random(seed)
    for number in range(200 if is_full else 20):
        simulate(seed + number, edit_alone, seed + number, rng.choice([AWS, R2]))
