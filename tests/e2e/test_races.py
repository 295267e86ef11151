"""Processes that race for one lock on real servers: one gets it, the others are told who (L1)."""

import json
import random
import subprocess
import sys
import uuid
from collections.abc import Callable
from contextlib import ExitStack, closing, suppress
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.conftest import Reached
from tests.e2e.conftest import MakeMachine
from tests.e2e.machines import PDFS, PROJECT, ROOT, Bucket, Machine
from tests.e2e.races import Meeting, is_overlapping, late, relayed_bucket
from tests.lengths import Length
from tests.store.running import in_turn, sampled_server
from tests.store.servers import Server, admin_client

USERS = ["anna", "bert", "carl", "dora", "emil", "fred", "gina", "hans"]


@pytest.fixture(params=sampled_server("moto", "seaweed", "r2"))
def server(request: pytest.FixtureRequest) -> Server:
    found: Server = request.getfixturevalue(request.param)
    return found


class Contender:
    """One `tests.e2e.contender` that runs."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.e2e.contender", PROJECT, "planning"],
            env=machine.environ,
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def tell(self, what: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{what}\n")
        self._process.stdin.flush()

    def hear(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"{self.machine.user} ended"
        found: dict[str, Any] = json.loads(line)
        return found

    def close(self) -> None:
        with self._process:
            self._process.kill()


Heard = list[tuple[Contender, dict[str, Any]]]
"""What each contender of a round said, the winner first."""


def race(contenders: list[Contender]) -> Heard:
    """All try at once: one gets the lock, and what the others are told is right."""
    for each in contenders:
        each.tell("take")
    heard = sorted(
        ((each, each.hear()) for each in contenders), key=lambda said: said[1]["won"], reverse=True
    )
    assert [told["won"] for _, told in heard] == [True] + [False] * (len(heard) - 1), heard
    owner = heard[0][0].machine
    for _, told in heard[1:]:
        assert f"locked by {owner.user} on {owner.name} since 2" in told["said"]
    return heard


def race_often(
    there: list[Contender],
    rng: random.Random,
    rounds: int,
    *,
    has_met: Callable[[Heard], bool],
    remove: Callable[[], None],
) -> int:
    """In how many of so many rounds they met. `remove` takes away the lock that was released."""
    assert all(each.hear() == {} for each in there)
    met, fence = 0, 0
    for _ in range(rounds):
        heard = race(rng.sample(there, rng.randint(2, len(there))))
        winner, told = heard[0]
        assert told["fence"] > fence
        winner.tell("release")
        assert winner.hear() == {}
        met, fence = met + has_met(heard), told["fence"]
        if rng.random() < 0.5:  # the next ones find a released lock, or none
            remove()
    return met


@in_turn(0)
@pytest.mark.figure(name="L1")
@pytest.mark.timeout(3600)
def test_of_processes_that_race_for_a_lock_one_wins_and_the_others_are_told_who(
    server: Server, machine: MakeMachine, seed: int, length: Length, reached: Reached
) -> None:
    """On a link of 20 ms; in at least half of the rounds they really meet."""
    rng = random.Random(f"{seed} {server.kind}")
    rounds = length.pick(sample=8, full=200, long=2_000) // (4 if server.kind == "r2" else 1)
    users = USERS[: length.pick(sample=3, full=8, long=8)]
    with (
        ExitStack() as all_of_them,
        relayed_bucket(server, uuid.uuid4().hex, late(0.01)) as (bucket, relay),
        closing(admin_client(server)) as client,
    ):
        lock = f"{bucket.prefix}/{PROJECT}/planning.lock.json"

        def has_met(heard: Heard) -> bool:
            is_overlap = is_overlapping(relay.exchanges)
            relay.exchanges.clear()
            return is_overlap

        def remove() -> None:
            with suppress(ClientError):  # R2: too soon after the release
                client.delete_object(Bucket=server.bucket, Key=lock)

        there = [
            all_of_them.enter_context(closing(Contender(machine(bucket, f"of-{user}", user=user))))
            for user in users
        ]
        met = race_often(there, rng, rounds, has_met=has_met, remove=remove)
    reached(rounds, f"rounds of processes on {server.kind}")
    reached(met, f"of these that met on {server.kind}")
    assert met * 2 >= rounds


@in_turn(0)
@pytest.mark.figure(name="L1")
@pytest.mark.timeout(3600)
def test_of_processes_that_race_for_a_lock_in_a_directory_one_wins_too(
    bucket: Bucket, machine: MakeMachine, seed: int, length: Length, reached: Reached
) -> None:
    rounds = length.pick(sample=8, full=200, long=2_000)
    users = USERS[: length.pick(sample=3, full=8, long=8)]
    assert bucket.directory is not None
    lock = bucket.directory / PROJECT / "planning.lock.json"

    def has_met(heard: Heard) -> bool:
        answered = heard[0][1]["answered"]
        return any(told.get("sent", answered) < answered for _, told in heard[1:])

    with ExitStack() as all_of_them:
        there = [
            all_of_them.enter_context(closing(Contender(machine(bucket, f"of-{user}", user=user))))
            for user in users
        ]
        met = race_often(
            there,
            random.Random(seed),
            rounds,
            has_met=has_met,
            remove=lambda: lock.unlink(missing_ok=True),
        )
    reached(rounds, "rounds of processes on a directory")
    reached(met, "of these that met on a directory")
    assert met * 2 >= rounds


def mounting(here: Machine) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [PDFS, "mount", PROJECT, here.mountpoint, "--create"],
        env=here.environ,
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@in_turn(1)
@pytest.mark.figure(name="L1")
@pytest.mark.timeout(3600)
def test_of_daemons_that_race_for_a_lock_one_mounts_and_the_other_is_told_who_did(
    server: Server, machine: MakeMachine, length: Length, reached: Reached
) -> None:
    rounds = length.pick(sample=1, full=24, long=300) // (4 if server.kind == "r2" else 1) or 1
    meeting, met = Meeting(expected=2, patience=5.0), 0
    with relayed_bucket(server, uuid.uuid4().hex, meeting) as (bucket, relay):
        both = machine(bucket), machine(bucket, "ws8", user="bert")
        for _ in range(rounds):
            relay.exchanges.clear()
            meeting.meet(2)
            winner, text = race_of_mounts(*both)
            met += is_overlapping(relay.exchanges)
            assert text in (winner.mountpoint / "who").read_text()
            winner.pdfs("umount", PROJECT)
    reached(rounds, f"rounds of daemons on {server.kind}")
    reached(met, f"of these that met on {server.kind}")
    assert met * 2 >= rounds


def race_of_mounts(*both: Machine) -> tuple[Machine, str]:
    """Who has mounted, and what he then wrote into the stage."""
    started = [mounting(each) for each in both]
    said = [each.communicate() for each in started]
    codes = [each.returncode for each in started]
    assert sorted(codes) == [0, 4], said
    winner, loser = codes.index(0), codes.index(4)
    owner = both[winner]
    assert f"locked by {owner.user} on {owner.name} since 2" in said[loser][1]
    assert owner.mountpoint.is_mount()
    assert not both[loser].mountpoint.is_mount()
    (owner.mountpoint / "who").write_text(text := uuid.uuid4().hex)
    return owner, text
