"""Whole sessions of real mounts on a network that fails: the simulation's weather, over HTTP."""

import random
import subprocess
import threading
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from tests.conftest import Reached
from tests.e2e.conftest import MakeMachine
from tests.e2e.machines import LIMIT, PDFS, PROJECT, TIMING, Machine, server_bucket
from tests.e2e.races import relayed_bucket
from tests.lengths import Length
from tests.store.network_faults import FAULTS
from tests.store.relay import Answered, Asked, Exchange, Forward, Rule, through
from tests.store.running import in_turn, sampled_server
from tests.store.servers import Server

FEWEST = 8
"""Requests that change something, which a publish of three files takes at least."""

PASSING = [
    "reset before it arrives",
    "answer lost",
    "silence when done",
    "500",
    "503",
    "429",
    "truncated",
    "wrong length",
]
"""Trouble that says nothing of the request itself: it is right to send that again."""


@pytest.fixture(params=sampled_server("moto", "seaweed", full=False))
def server(request: pytest.FixtureRequest) -> Server:
    found: Server = request.getfixturevalue(request.param)
    return found


def is_change(asked: Asked) -> bool:
    """Whether it changes anything but the lock, which is renewed whenever it is due."""
    return asked.method not in ("GET", "HEAD") and not asked.key.endswith(".lock.json")


@dataclass(slots=True)
class Partition:
    """A rule: from change number `at` on nothing passes any more, until the network is mended."""

    at: int = 0
    is_carried_out: bool = False
    """Of the last change that was sent, only the answer is lost."""
    changes: int = 0
    is_cut: threading.Event = field(default_factory=threading.Event)
    _turn: threading.Lock = field(default_factory=threading.Lock)

    def arm(self, at: int, *, is_carried_out: bool) -> None:
        with self._turn:
            self.at, self.is_carried_out, self.changes = at, is_carried_out, 0

    def mend(self) -> None:
        self.at = 0
        self.is_cut.clear()

    def __call__(self, asked: Asked, forward: Forward) -> Answered | None:
        is_last = self._is_last(asked)
        if is_last and self.is_carried_out:
            forward(asked)
        return None if is_last or self.is_cut.is_set() else forward(asked)

    def _is_last(self, asked: Asked) -> bool:
        with self._turn:
            if not self.at or self.is_cut.is_set() or not is_change(asked):
                return False
            self.changes += 1
            if self.changes == self.at:
                self.is_cut.set()
            return self.is_cut.is_set()


@in_turn(5)
@pytest.mark.figure(name="S3")
@pytest.mark.timeout(3600)
def test_a_partition_amid_an_upload_and_then_a_kill_lose_nothing(
    server: Server, machine: MakeMachine, seed: int, length: Length, reached: Reached
) -> None:
    rng = random.Random(seed)
    each = [(number, rng.random() < 0.5) for number in range(1, FEWEST + 1)]
    both = [(number, carried) for number, _ in each for carried in (False, True)]
    points = length.pick(sample=[rng.choice(each)], full=each, long=both * 5)
    for number, carried in points:
        partition, prefix = Partition(), uuid.uuid4().hex
        with relayed_bucket(server, prefix, partition) as (bucket, _):
            here = machine(bucket)
            written = cut_off_and_killed(here, partition, number, carried=carried)
            partition.mend()
            mounted = here.mount()
            assert {path.name: path.read_text() for path in mounted.iterdir()} == written
            here.pdfs("umount", PROJECT)
        direct = server_bucket(server, prefix)
        assert direct.plain_texts() == written
        check_elsewhere(machine(direct, "ws8", user="bert"), written)
    reached(len(points), f"partitions amid an upload on {server.kind}")


def cut_off_and_killed(
    here: Machine, partition: Partition, number: int, *, carried: bool
) -> dict[str, str]:
    """What was written: before the partition amid a publish, and after; then the machine died."""
    written = {name: f"{name} of the first day" for name in ("a.dwg", "b.dwg", "c.dwg")}
    mounted = here.mount("--create")
    for name, text in written.items():
        (mounted / name).write_text(text)
    partition.arm(number, is_carried_out=carried)
    with subprocess.Popen(
        [PDFS, "publish", PROJECT],
        env=here.environ,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as publishing:
        assert partition.is_cut.wait(LIMIT), "there was no such request"
        for name in ("a.dwg", "d.dwg"):
            written[name] = f"{name} during the partition"
            (mounted / name).write_text(written[name])
        ended = here.run("umount", PROJECT, "--timeout", "2")
        assert (ended.code, "the daemon goes on" in ended.err) == (9, True), ended
        (session,) = here.sessions()
        assert session["unpublished"]["files"] >= 2
        here.die()
        publishing.wait(LIMIT)
    return written


def check_elsewhere(newcomer: Machine, expected: dict[str, str]) -> None:
    """A machine that knows nothing yet may mount at once, and reads just these."""
    mounted = newcomer.mount()
    assert {path.name: path.read_text() for path in mounted.iterdir()} == expected
    newcomer.pdfs("umount", PROJECT)


@dataclass(slots=True)
class Weather:
    """A rule: so many of all requests meet some passing trouble."""

    chance: random.Random
    share: float = 0.0
    hits: int = 0
    _turn: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, asked: Asked, forward: Forward) -> Answered | Iterator[bytes] | None:
        return self._rule()(asked, forward)

    def _rule(self) -> Rule:
        with self._turn:
            if self.chance.random() >= self.share:
                return through
            self.hits += 1
            return FAULTS[self.chance.choice(PASSING)]


@in_turn(6)
@pytest.mark.figure(name="S4")
@pytest.mark.timeout(3600)
def test_a_session_where_each_third_request_fails_is_saved_all_the_same(
    server: Server, machine: MakeMachine, seed: int, length: Length, reached: Reached
) -> None:
    sessions = length.pick(sample=1, full=6, long=100)
    for number in range(sessions):
        weather = Weather(random.Random(f"{seed} {number}"))
        prefix = uuid.uuid4().hex
        direct = server_bucket(server, prefix)
        with relayed_bucket(server, prefix, weather) as (bucket, relay):
            here = machine(bucket, timing={**TIMING, "patience": 60.0})
            here.mount("--create")  # which proves the bucket: who can't end that is told so
            here.pdfs("umount", PROJECT)
            weather.share = 0.3
            written = save_twice(here)
            assert weather.hits >= 5
            assert most_tries(relay.exchanges) <= 10
        assert direct.plain_texts() == written
        check_elsewhere(machine(direct, "ws8", user="bert"), written)
        reached(weather.hits, f"requests that met trouble on {server.kind}")
    reached(sessions, f"sessions in a storm on {server.kind}")


def save_twice(here: Machine) -> dict[str, str]:
    """Mount, write, publish; change as CAD does, delete, unmount: what is left then."""
    mounted = here.mount()
    for name in ("model.dwg", "list.csv", "old.dxf"):
        (mounted / name).write_text(f"{name} of the first day")
    here.pdfs("publish", PROJECT)
    (mounted / "model.tmp").write_text("model.dwg of the second day")
    (mounted / "model.dwg").rename(mounted / "model.bak")
    (mounted / "model.tmp").rename(mounted / "model.dwg")
    (mounted / "old.dxf").unlink()
    here.pdfs("umount", PROJECT)
    return {
        "model.dwg": "model.dwg of the second day",
        "model.bak": "model.dwg of the first day",
        "list.csv": "list.csv of the first day",
    }


def most_tries(exchanges: list[Exchange]) -> int:
    """How often the same bytes were sent to the same place."""
    asked = [exchange.asked for exchange in exchanges if exchange.asked.body]
    return max(Counter((each.method, each.target, each.body) for each in asked).values())
