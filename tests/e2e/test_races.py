"""Processes that race for one lock on real servers: one gets it, the others are told who (L1)."""

import json
import random
import subprocess
import sys
import uuid
from contextlib import ExitStack, closing, suppress
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.conftest import Reached
from tests.e2e.conftest import MakeMachine
from tests.e2e.machines import PDFS, PROJECT, ROOT, Machine
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


def race(contenders: list[Contender]) -> tuple[Contender, dict[str, Any]]:
    """All try at once; the one who got the lock, and what the others were told is right."""
    for each in contenders:
        each.tell("take")
    heard = [(each, each.hear()) for each in contenders]
    won = [(each, told) for each, told in heard if told["won"]]
    assert len(won) == 1, heard
    owner = won[0][0].machine
    for _, told in heard:
        assert told["won"] or f"locked by {owner.user} on {owner.name} since 2" in told["said"]
    return won[0]


@in_turn(0, of=8)
@pytest.mark.figure(name="L1")
def test_of_processes_that_race_for_a_lock_one_wins_and_the_others_are_told_who(
    server: Server, machine: MakeMachine, seed: int, length: Length, reached: Reached
) -> None:
    """On a link of 20 ms; in at least half of the rounds they really meet."""
    rng = random.Random(f"{seed} {server.kind}")
    rounds = length.pick(sample=8, full=200, long=2_000) // (4 if server.kind == "r2" else 1)
    users = USERS[: length.pick(sample=3, full=8, long=8)]
    met, fence = 0, 0
    with (
        ExitStack() as all_of_them,
        relayed_bucket(server, uuid.uuid4().hex, late(0.01)) as (bucket, relay),
        closing(admin_client(server)) as client,
    ):
        there = [
            all_of_them.enter_context(closing(Contender(machine(bucket, f"of-{user}", user=user))))
            for user in users
        ]
        assert all(each.hear() == {} for each in there)
        lock = f"{bucket.prefix}/{PROJECT}/planning.lock.json"
        for _ in range(rounds):
            relay.exchanges.clear()
            winner, told = race(rng.sample(there, rng.randint(2, len(there))))
            assert told["fence"] > fence
            met, fence = met + is_overlapping(relay.exchanges), told["fence"]
            winner.tell("release")
            assert winner.hear() == {}
            if rng.random() < 0.5:  # the next ones find a released lock, or none
                with suppress(ClientError):  # R2: too soon after the release
                    client.delete_object(Bucket=server.bucket, Key=lock)
    reached(rounds, f"rounds of processes on {server.kind}")
    reached(met, f"of these that met on {server.kind}")
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


@in_turn(1, of=8)
@pytest.mark.figure(name="L1")
def test_of_daemons_that_race_for_a_lock_one_mounts_and_the_other_is_told_who_did(
    server: Server, machine: MakeMachine, length: Length, reached: Reached
) -> None:
    rounds = length.pick(sample=1, full=25, long=300)
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
