"""The protocol of Start, Commit, Apply and Settle under every fault, on a virtual clock.

No threads, no sockets, no disk: everything is drawn from one seed, and the same seed gives the same
run to the last request. Each run is judged from outside by `oracle`.
"""

import hashlib
import itertools
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
from tests.conftest import Reached
from tests.lengths import Length
from tests.simulation.conftest import HITS, Schedules
from tests.simulation.crowd import Weather, edit_alone, meet
from tests.simulation.decay import decay
from tests.simulation.handover import hand_over
from tests.simulation.incidents import (
    MOVED,
    change_kinds,
    delete_late,
    delete_unanswered,
    list_frozen,
    lose_lock,
    lose_name,
    put_frozen,
)
from tests.simulation.refusal import refuse
from tests.simulation.story import Fault, tell, tell_of_a_cut
from tests.simulation.table import (
    CELLS,
    PROMISED_FAULTS,
    PROMISED_STEPS,
    READS,
    SESSION_STEPS,
    fates_at,
    sampled_at,
)
from tests.simulation.world import AWS, MINIO, POOR, R2, World

T = TypeVar("T")

WEATHERS = (
    Weather(faults=0.0, graver=0.0),
    Weather(faults=0.02, graver=0.3),
    Weather(faults=0.1, graver=0.1),
    Weather(faults=0.3, graver=0.02),
)
STALE_LISTINGS = Weather(faults=0.02, graver=0.3, stale=0.8)

RUNS = itertools.count(1)
EVERY_STORE = pytest.mark.parametrize(
    "traits", [AWS, R2, MINIO, POOR], ids=["aws", "r2", "minio", "poor"]
)


def simulate(seed: int, run: Callable[..., Coroutine[Any, Any, T]], *args: object) -> T:
    """What `run(seed, *args)` returns under trio; the order of tasks depends on `seed` alone."""
    # Trio asks this generator alone once scheduling is deterministic, as for Hypothesis.
    trio._core._run._r.seed(seed)
    setattr(trio._core._run, "_ALLOW_DETERMINISTIC_SCHEDULING", True)  # noqa: B010 - it is Final
    number = next(RUNS)
    try:
        return trio.run(partial(run, seed, *args), clock=MockClock(autojump_threshold=0))
    except BaseException as error:
        error.add_note(f"run {number} of this process: {run.__name__} with {(seed, *args)}")
        raise


def name_of(step: Step) -> str:
    """What a test's id calls a step: `apply-put`."""
    return step.replace(": ", "-").replace(" ", "-")


def test_the_table_has_every_step_and_every_fault_that_is_promised() -> None:
    steps = [step for steps in PROMISED_STEPS.values() for step in steps]
    assert sorted(steps) == sorted(SESSION_STEPS)
    faults = [fate for fates in PROMISED_FAULTS.values() for fate in fates]
    assert sorted([*faults, Fate.FINE]) == sorted(Fate)
    for steps_of_word in PROMISED_STEPS.values():
        found = {fate for step in steps_of_word for fate in fates_at(step)}
        assert found >= (READ_FATES if steps_of_word <= READS else READ_FATES | WRITE_FATES)


def test_three_samples_in_a_row_are_the_whole_table(seed: int) -> None:
    found = {
        (step, fate)
        for step in SESSION_STEPS
        for each in range(3)
        for fate in sampled_at(step, seed + each)
    }
    assert found == CELLS


@pytest.mark.parametrize("step", SESSION_STEPS, ids=name_of)
def test_every_fault_at_every_step_leaves_everything_that_was_written(
    seed: int,
    is_full: bool,
    step: Step,
    record_property: Callable[[str, object], None],
    schedules: Schedules,
) -> None:
    missed = []
    fates = fates_at(step) if is_full else sampled_at(step, seed)
    for number, fate in enumerate(fates, 20 * list(Step).index(step)):
        variants = [(AWS, 1), (R2, 1), (POOR, 2), (MINIO, 3)]
        shift = (seed + number) % len(variants)
        hits = 0
        for traits, occurrence in variants[shift:] + variants[:shift]:
            fault = Fault(step, fate, occurrence)
            told_seed = seed + number
            schedules.add(simulate(told_seed, tell, traits, fault).world)
            hits += fault.hit
            if hits and not is_full:
                break
        record_property(HITS, f"{step}|{fate}|{hits}")
        if not hits:
            missed.append(fate)
    assert not missed, f"never hit: {missed}"


@pytest.mark.figure(name="S3")
@EVERY_STORE
def test_a_stage_that_is_handed_over_amid_a_publish_loses_nothing(
    seed: int, length: Length, traits: Traits, reached: Reached, schedules: Schedules
) -> None:
    accidents, rounds = 0, length.pick(sample=8, full=150, long=15_000)
    reached(rounds, "hand-overs")
    for number in range(rounds):
        world, happened = simulate(seed + number, hand_over, traits)
        schedules.add(world)
        accidents += happened
    assert accidents, "no machine ever failed: nothing was tested"


@pytest.mark.figure(name="S4")
@pytest.mark.parametrize("weather", WEATHERS, ids=["fair", "rain", "gale", "storm"])
@EVERY_STORE
def test_machines_and_another_tool_at_once_lose_nothing_in_any_weather(
    seed: int,
    length: Length,
    weather: Weather,
    traits: Traits,
    reached: Reached,
    schedules: Schedules,
) -> None:
    saved, rounds = 0, length.pick(sample=2, full=75, long=4_000)
    reached(rounds, "stories")
    for number in range(rounds):
        world = simulate(seed + number, meet, traits, weather)
        schedules.add(world)
        saved += len(world.completed)
    assert saved, "no session was ever called saved: nothing was tested"


@EVERY_STORE
def test_what_a_bucket_refuses_is_set_aside_or_waited_for_and_is_there_in_the_end(
    seed: int, length: Length, traits: Traits
) -> None:
    obeyed, rounds = 0, length.pick(sample=3, full=100, long=1_000)
    for number in range(10 * rounds):
        if number >= rounds and obeyed:
            break
        obeyed += simulate(seed + number, refuse, traits)
    assert obeyed, "nothing was ever set aside: nothing was tested"


@pytest.mark.figure(name="S7")
@EVERY_STORE
def test_stale_listings_only_delay_what_other_tools_did(
    seed: int, length: Length, traits: Traits, reached: Reached, schedules: Schedules
) -> None:
    rounds = length.pick(sample=2, full=75, long=4_000)
    reached(rounds, "stories with stale listings")
    for number in range(rounds):
        world = simulate(seed + number, meet, traits, STALE_LISTINGS)
        schedules.add(world)


@pytest.mark.figure(name="L2")
def test_a_machine_cut_off_at_any_step_and_taken_over_publishes_nothing_stale(
    seed: int, length: Length, reached: Reached, schedules: Schedules
) -> None:
    cut, rounds = set(), length.pick(sample=1, full=20, long=500)
    reached(rounds * len(SESSION_STEPS), "rounds")
    for number, step in enumerate(SESSION_STEPS):
        for round_number in range(rounds):
            told_seed = seed + 100 * round_number + number
            traits = (AWS, R2)[told_seed % 2]
            world, was_cut = simulate(told_seed, tell_of_a_cut, traits, step)
            schedules.add(world)
            if was_cut:
                cut.add(step)
    always = {Step.START_WRITE_ROOT, Step.COMMIT_ROOT, Step.APPLY_PUT, Step.SETTLE_ROOT}
    assert cut >= always, f"nobody was cut off at {always - cut}"


@EVERY_STORE
def test_a_late_delete_of_a_machine_that_was_cut_off_hits_nothing_newer(
    seed: int, traits: Traits
) -> None:
    simulate(seed, delete_late, traits)


@EVERY_STORE
def test_a_delete_without_an_answer_is_waited_out(seed: int, traits: Traits) -> None:
    simulate(seed, delete_unanswered, traits)


@EVERY_STORE
def test_a_process_that_was_frozen_leaves_nothing_in_a_stage_that_is_another_s(
    seed: int, traits: Traits
) -> None:
    simulate(seed, put_frozen, traits)


@EVERY_STORE
def test_a_lock_that_vanished_is_made_again_by_its_owner_alone(seed: int, traits: Traits) -> None:
    simulate(seed, lose_lock, traits)


@EVERY_STORE
def test_what_a_new_owner_published_is_no_late_write_of_the_former(
    seed: int, traits: Traits
) -> None:
    simulate(seed, list_frozen, traits)


@EVERY_STORE
def test_a_file_that_becomes_a_directory_needs_no_conflict_copy(seed: int, traits: Traits) -> None:
    simulate(seed, change_kinds, traits)


@EVERY_STORE
def test_a_superseded_session_names_the_files_whose_bytes_are_lost(
    seed: int, traits: Traits
) -> None:
    assert simulate(seed, lose_name, traits) == [MOVED]


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
        f"print(history_of(simulate({seed}, meet, R2, WEATHERS[2])))"
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
    runs = {history_of(simulate(seed, meet, AWS, WEATHERS[1])) for seed in range(3)}
    assert len(runs) == 3


@pytest.mark.figure(name="S2")
def test_one_user_on_one_machine_never_loses_the_stage_to_himself(
    seed: int, length: Length, reached: Reached, schedules: Schedules
) -> None:
    rng, rounds = random.Random(seed), length.pick(sample=30, full=400, long=50_000)
    reached(2 * rounds, "sessions with a quarter of all requests lost")
    for number in range(rounds):
        traits = rng.choice([AWS, R2, MINIO])
        schedules.add(simulate(seed + number, edit_alone, traits))


@pytest.mark.figure(name="S5")
@EVERY_STORE
def test_only_what_nobody_needs_any_more_is_collected(
    seed: int, length: Length, traits: Traits, reached: Reached, schedules: Schedules
) -> None:
    let_go = served = 0
    rounds = length.pick(sample=2, full=75, long=1_000)
    reached(rounds, "stages over weeks")
    for number in range(rounds):
        world, objects, readers = simulate(seed + number, decay, traits)
        schedules.add(world)
        let_go, served = let_go + objects, served + readers
    assert let_go, "nothing was ever collected: nothing was tested"
    assert served, "no reader read to the end: nothing was tested"
