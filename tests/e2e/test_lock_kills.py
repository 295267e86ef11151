"""kill -9 at any request that takes, renews, gives back or breaks a lock (L5)."""

import json
import random
import time
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest

from pdfs.core.keys import StageKeys
from tests.conftest import Reached
from tests.e2e.conftest import MakeMachine
from tests.e2e.machines import LIMIT, PROJECT, Bucket, Machine, server_bucket
from tests.e2e.races import is_of_lock, relayed_bucket
from tests.lengths import Length
from tests.store.moments import AtRequest, killing
from tests.store.running import in_turn, sampled_server
from tests.store.servers import Server, admin_client

MOST = {"acquire": 6, "renew": 1, "release": 8, "break": 7}
"""Requests of each, of which every one may be the last; what comes later is no part of it."""


@pytest.fixture(params=sampled_server("moto", "seaweed", full=False))
def server(request: pytest.FixtureRequest) -> Server:
    found: Server = request.getfixturevalue(request.param)
    return found


@contextmanager
def cut_off(server: Server, machine: MakeMachine) -> Iterator[tuple[Machine, AtRequest, Bucket]]:
    """anna's machine behind a relay, with a stage of one file; and the bucket itself."""
    prefix = uuid.uuid4().hex
    moment = AtRequest(lambda asked: True)
    with relayed_bucket(server, prefix, moment) as (bucket, _):
        anna = machine(bucket)
        (anna.mount("--create") / "drawing.dxf").write_text("drawn\n")
        anna.pdfs("umount", PROJECT)
        yield anna, moment, server_bucket(server, prefix)


def lock_of(machine: Machine) -> dict[str, Any] | None:
    """What anybody sees of the lock."""
    found: dict[str, Any] | None = json.loads(machine.pdfs("lock", "show", PROJECT, "--json"))[
        "lock"
    ]
    return found


def begin(phase: str, anna: Machine, moment: AtRequest, number: int, *, carried: bool) -> bool:
    """Let anna's machine die amid that phase; False where it was over before."""
    happen = killing(anna.die, is_carried_out=carried)
    if phase == "acquire":
        moment.arm(number, happen)
        anna.run("mount", PROJECT, anna.mountpoint)
    elif phase == "break":
        moment.arm(number, happen)
        anna.run("lock", "break", PROJECT, "--yes", "--reason", "a test")
    else:
        anna.mount()
        if phase == "renew":
            moment.counts = is_of_lock
            moment.arm(number, happen)
            deadline = time.monotonic() + LIMIT
            while moment.met is None:
                assert time.monotonic() < deadline, "the lock is not renewed"
                time.sleep(0.05)
        else:
            moment.arm(number, happen)
            anna.run("umount", PROJECT)
    was_met = moment.met is not None
    moment.arm(0, happen)
    return was_met


Point = tuple[int, bool]
"""The number of the request that is the last one, and whether it is carried out."""


def points_of(phase: str, rng: random.Random) -> tuple[list[Point], list[Point]]:
    """Each request of a phase, carried out or not as chance has it; and each of them both ways."""
    numbers = range(1, MOST[phase] + 1)
    both = [(number, carried) for number in numbers for carried in (False, True)]
    return [(number, rng.random() < 0.5) for number in numbers], both


@pytest.mark.figure(name="L5")
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    "phase",
    [
        pytest.param(phase, marks=in_turn(number))
        for number, phase in enumerate(["acquire", "renew", "release"], 4)
    ],
)
def test_who_dies_amid_any_request_about_a_lock_has_it_again_at_once_and_another_by_rule(
    phase: str,
    server: Server,
    machine: MakeMachine,
    seed: int,
    length: Length,
    reached: Reached,
) -> None:
    rng = random.Random(f"{seed} {phase}")
    each, both = points_of(phase, rng)
    kills = 0
    for number, carried in length.pick(sample=[rng.choice(both)], full=each, long=both):
        with cut_off(server, machine) as (anna, moment, bucket):
            if not begin(phase, anna, moment, number, carried=carried):
                anna.die()
            kills += 1
            bert = machine(bucket, "ws8", user="bert")
            try:
                come_back(anna, bert, bucket)
            except BaseException as error:
                error.add_note(f"killed at {number}, {carried=}: {moment.met}")
                raise
    reached(kills, f"kills amid a lock's {phase}")


def come_back(anna: Machine, bert: Machine, bucket: Bucket) -> None:
    """bert is refused unless anna's session is over; she has the stage at once, and then he."""
    lock = lock_of(bert)
    if lock is not None and lock["state"] != "released":
        assert lock["user"] == "anna"
        if has_ended(lock, bucket):
            use(bert)
        else:
            refused = bert.run("mount", PROJECT, bert.mountpoint)
            assert (refused.code, "locked by anna on ws7" in refused.err) == (4, True)
    use(anna)
    use(bert)


def use(machine: Machine) -> None:
    """Mount, read, unmount."""
    assert (machine.mount() / "drawing.dxf").read_text() == "drawn\n"
    machine.pdfs("umount", PROJECT)


def has_ended(lock: dict[str, Any], bucket: Bucket) -> bool:
    """Whether the root says that the lock's session is over, and only the lock was left behind."""
    assert bucket.server is not None
    with closing(admin_client(bucket.server)) as client:
        key = f"{bucket.prefix}/{StageKeys(PROJECT, 'planning').root}"
        root = json.load(client.get_object(Bucket=bucket.server.bucket, Key=key)["Body"])
    sessions = {entry["session"] for entry in root["sessions"]}
    return lock["fence"] <= root["fence"] and lock["session"] not in sessions


@in_turn(7)
@pytest.mark.figure(name="L6")
@pytest.mark.timeout(3600)
def test_a_lock_that_was_broken_with_interruptions_is_free_and_its_owner_publishes_nothing(
    server: Server, machine: MakeMachine, seed: int, length: Length, reached: Reached
) -> None:
    rng = random.Random(seed)
    each, both = points_of("break", rng)
    points = length.pick(sample=[rng.choice(both)], full=each, long=both)
    for number, carried in points:
        with cut_off(server, machine) as (breaker, moment, bucket):
            bert = machine(bucket, "ws8", user="bert")
            (bert.mount() / "late.dxf").write_text("late\n")
            begin("break", breaker, moment, number, carried=carried)
            breaker.pdfs("lock", "break", PROJECT, "--yes", "--reason", "again")
            lock = lock_of(breaker)
            assert lock is None or lock["state"] == "released"
            ended = bert.run("umount", PROJECT)
            assert ended.code == 9, ended
            assert set(bucket.plain_texts()) == {"drawing.dxf"}
            assert "late.dxf" in bert.pdfs("recover", "show", PROJECT)
    reached(len(points), "locks broken with interruptions")
