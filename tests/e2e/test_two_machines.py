"""A machine that dies or freezes amid its requests, and another that goes on in its place."""

import random
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import Reached
from tests.e2e.conftest import MakeMachine
from tests.e2e.machines import LIMIT, PDFS, PROJECT, Bucket, Machine, server_bucket, stopped
from tests.e2e.races import relayed_bucket
from tests.lengths import Length
from tests.store.moments import AtRequest, Held, killing
from tests.store.relay import Asked, Relay
from tests.store.running import in_turn, sampled_server
from tests.store.servers import Server

BEFORE = {"model.dwg": "model of the first day", "list.csv": "1;2;3", "old.dxf": "old"}
AFTER = {
    "model.dwg": "model of the second day",
    "model.bak": "model of the first day",
    "list.csv": "1;2;3;4",
    "new.dxf": "new",
}
FEWEST_CHANGES = 9
"""Requests that change something, which the publish of AFTER takes at least."""


@pytest.fixture(params=sampled_server("moto", "seaweed", full=False))
def server(request: pytest.FixtureRequest) -> Server:
    found: Server = request.getfixturevalue(request.param)
    return found


def is_publishing(asked: Asked) -> bool:
    """Whether a request changes anything, but for the lock, which is renewed whenever it is due."""
    return asked.method not in ("GET", "HEAD") and not asked.key.endswith(".lock.json")


def is_of_root(asked: Asked) -> bool:
    """Whether it writes the stage's root."""
    return asked.method == "PUT" and asked.key.endswith("/root.json")


@dataclass(frozen=True, slots=True)
class Scene:
    """anna's machine, whose requests pass a relay, and a stage that holds BEFORE."""

    anna: Machine
    moment: AtRequest
    relay: Relay
    bucket: Bucket
    """Not through the relay."""

    def work(self) -> None:
        """Mount; save as CAD does, save in place, delete, and make: AFTER."""
        mounted = self.anna.mount()
        (mounted / "model.tmp").write_text(AFTER["model.dwg"])
        (mounted / "model.dwg").rename(mounted / "model.bak")
        (mounted / "model.tmp").rename(mounted / "model.dwg")
        (mounted / "list.csv").write_text(AFTER["list.csv"])
        (mounted / "new.dxf").write_text(AFTER["new.dxf"])
        (mounted / "old.dxf").unlink()
        self.relay.exchanges.clear()

    @property
    def has_committed(self) -> bool:
        """Whether the server has taken a root since the work."""
        return any(each.was_carried_out and is_of_root(each.asked) for each in self.relay.exchanges)


@contextmanager
def scene(server: Server, machine: MakeMachine, directory: Path) -> Iterator[Scene]:
    prefix = uuid.uuid4().hex
    moment = AtRequest(is_publishing)
    first_day = directory / prefix
    first_day.mkdir()
    for name, text in BEFORE.items():
        (first_day / name).write_text(text)
    with relayed_bucket(server, prefix, moment) as (bucket, relay):
        anna = machine(bucket)
        anna.pdfs("import", first_day, PROJECT)
        yield Scene(anna, moment, relay, server_bucket(server, prefix))


def texts(machine: Machine) -> dict[str, str]:
    """What the machine's mount shows."""
    return {path.name: path.read_text() for path in machine.mountpoint.iterdir()}


def check_everywhere(here: Scene, newcomer: Machine, expected: dict[str, str]) -> None:
    """A machine that knows nothing yet reads just these, and so does every other tool."""
    newcomer.mount("--wait")
    assert texts(newcomer) == expected
    newcomer.pdfs("umount", PROJECT)
    assert here.bucket.plain_texts() == expected


@in_turn(2)
@pytest.mark.figure(name="S5")
@pytest.mark.timeout(3600)
def test_a_publisher_killed_at_any_request_is_finished_by_a_machine_with_an_empty_cache(
    server: Server,
    machine: MakeMachine,
    tmp_path: Path,
    seed: int,
    length: Length,
    reached: Reached,
) -> None:
    rng = random.Random(seed)
    chosen = [(rng.randint(1, FEWEST_CHANGES), rng.random() < 0.5)]
    each = [(number, rng.random() < 0.5) for number in range(1, 100)]
    both = [(number, carried) for number, _ in each for carried in (False, True)]
    kills = 0
    for number, is_carried_out in length.pick(sample=chosen, full=each, long=both):
        with scene(server, machine, tmp_path) as here:
            here.work()
            here.moment.arm(number, killing(here.anna.die, is_carried_out=is_carried_out))
            ended = here.anna.run("umount", PROJECT)
            if here.moment.met is None:
                assert ended.code == 0, ended
                check_everywhere(here, machine(here.bucket, "ws9", user="carl"), AFTER)
                break
            met, is_committed = here.moment.met, here.has_committed
            here.moment.arm(0, here.moment.happen)
            try:
                finish_and_resume(here, machine, is_committed=is_committed)
            except BaseException as error:
                error.add_note(f"killed at {number}, {is_carried_out=}: {met}")
                raise
            kills += 1
    reached(kills, f"kills of a publisher on {server.kind}")
    assert kills >= length.pick(sample=1, full=FEWEST_CHANGES, long=2 * FEWEST_CHANGES)


def finish_and_resume(here: Scene, machine: MakeMachine, *, is_committed: bool) -> None:
    """bert goes on with what he finds: all of a generation, or nothing of it; then anna resumes."""
    bert = machine(here.bucket, "ws8", user="bert")
    bert.mount("--take-over", "--wait")
    expected = AFTER if is_committed else BEFORE
    assert texts(bert) == expected
    bert.pdfs("umount", PROJECT)
    assert here.bucket.plain_texts() == expected
    resumed = here.anna.run("recover", "resume", PROJECT)
    assert resumed.code == 0, resumed
    check_everywhere(here, machine(here.bucket, "ws9", user="carl"), AFTER)


@in_turn(3)
@pytest.mark.figure(name="L2")
@pytest.mark.timeout(3600)
def test_a_frozen_owner_that_goes_on_after_a_take_over_changes_nothing_and_keeps_its_work(
    server: Server,
    machine: MakeMachine,
    tmp_path: Path,
    seed: int,
    length: Length,
    reached: Reached,
) -> None:
    every = list(range(1, FEWEST_CHANGES + 1))
    points = length.pick(sample=[random.Random(seed).choice(every)], full=every, long=every * 10)
    reached(len(points), f"owners frozen and taken over on {server.kind}")
    for number in points:
        with scene(server, machine, tmp_path) as here:
            here.work()
            freeze_and_take_over(here, machine, number)


def freeze_and_take_over(here: Scene, machine: MakeMachine, number: int) -> None:
    held = Held()
    here.moment.arm(number, held)
    (session,) = here.anna.sessions()
    waiting = subprocess.Popen(
        [PDFS, "umount", PROJECT],
        env=here.anna.environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert held.is_held.wait(LIMIT), "there was no such request"
    with stopped(session["pid"]):
        was_committed = here.has_committed
        bert = machine(here.bucket, "ws8", user="bert")
        bert.mount("--take-over", "--wait")
        expected = AFTER if was_committed else BEFORE
        assert texts(bert) == expected
        expected = {**expected, "list.csv": "by bert"}
        (bert.mountpoint / "list.csv").write_text("by bert")
        bert.pdfs("umount", PROJECT)
        held.go_on.set()
        assert held.is_over.wait(LIMIT)
        assert here.bucket.plain_texts() == expected, "a stale write reached an object"
    _, said = waiting.communicate(timeout=LIMIT)
    assert waiting.returncode == 9, said
    check_everywhere(here, machine(here.bucket, "ws9", user="carl"), expected)
    if was_committed:  # and finished by bert: what anna has is older than what is there
        assert here.anna.run("recover", "resume", PROJECT).code == 0
        assert here.bucket.plain_texts() == expected
        return
    shown = here.anna.pdfs("recover", "show", PROJECT)
    assert all(name in shown for name in ("model.dwg", "list.csv", "new.dxf")), shown
    assert here.anna.run("recover", "resume", PROJECT).code == 10
    found = here.bucket.plain_texts()
    (copy,) = (name for name in found if "(conflict anna ws7" in name)
    assert found == {**AFTER, "list.csv": "by bert", copy: AFTER["list.csv"]}
