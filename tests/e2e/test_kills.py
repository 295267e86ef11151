"""kill -9 of the daemon at any moment, under five workloads, many times in a row (C1)."""

import os
from pathlib import Path

import pytest

from tests.conftest import LENGTH, Reached
from tests.e2e.conftest import MakeMachine
from tests.e2e.kills.story import SMALL, Story
from tests.e2e.kills.workloads import WORKLOADS
from tests.e2e.machines import Bucket

STORIES = LENGTH.pick(sample=1, full=10, long=200)
KILLS = LENGTH.pick(sample=2, full=5, long=5)


@pytest.mark.figure(name="C1")
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("number", range(STORIES), ids=lambda number: f"story{number:03}")
def test_kills_at_any_moment_lose_nothing_acknowledged_and_invent_nothing(
    bucket: Bucket, machine: MakeMachine, tmp_path: Path, seed: int, number: int, reached: Reached
) -> None:
    turn = seed + number
    workload = list(WORKLOADS)[turn % len(WORKLOADS)]
    small = {"PYTHONPATH": os.pathsep.join([str(SMALL), os.environ.get("PYTHONPATH", "")])}
    is_small = turn // len(WORKLOADS) % 2 == 0
    here = machine(bucket, extra=small if is_small else {})
    elsewhere = machine(bucket, "ws8")
    story = Story(workload, here, elsewhere, tmp_path / "outside", f"{seed} {number}")
    try:
        story.tell(KILLS)
    except BaseException as error:
        error.add_note(
            f"{workload}, {dict(story.kills)}: repeat with PDFS_TEST_SEED={seed} "
            f"PDFS_TEST_LENGTH={LENGTH} pytest tests/e2e/test_kills.py -k story{number:03}"
        )
        raise
    assert story.acknowledged > 0
    for moment, count in story.kills.items():
        reached(count, f"kills {moment}")
    reached(story.acknowledged, "operations acknowledged")
    reached(story.in_flight, "operations in flight at a kill")
