"""A session that is cut short, while its hooks can still run: sealed, noted, and given back."""

import json
import signal
from pathlib import Path

import pytest
import trio

from pdfs.core import lease
from pdfs.core.lease import LockState, Unpublished
from pdfs.errors import DiskError, UnpublishedWork
from pdfs.local.journal import Journal
from pdfs.stage.context import StageContext
from pdfs.store.faulty import Fate, Request
from pdfs.store.step import Step
from tests.conftest import ExpectedWarnings
from tests.fs.process import Process
from tests.mount.carriers import Desk, stand_in_for_fuse
from tests.stage.contexts import Site

pytestmark = pytest.mark.real_clock


def lock_of(site: Site) -> lease.Lock:
    return lease.decode(site.keys.lock, site.store.objects[site.keys.lock].body)


def left_of(desk: Desk) -> tuple[dict[str, object], set[str]]:
    """What the one session left here: its description, and the names of its segments."""
    ((_, path),) = desk.sessions().items()
    described = json.loads((path / "session.json").read_text())
    return described, {each.name for each in path.glob("journal-*")}


async def draw_and_die(process: Process) -> None:
    process.write_file("f", b"drawn")
    await trio.lowlevel.checkpoint()
    raise RuntimeError("a bug of ours")


def stuck_context(site: Site, late: trio.Nursery) -> StageContext:
    """A bucket that takes no contents; the second of two signals comes when it has said so."""
    refused = 0

    def fate_of(request: Request) -> Fate:
        nonlocal refused
        if request.step is not Step.STAGE_CONTENT:
            return Fate.FINE
        refused += 1
        if refused == 3:
            signal.raise_signal(signal.SIGTERM)
        return Fate.REFUSED

    return site.context(store=site.behind(late, fate_of))


async def draw_and_be_told_to_stop(process: Process) -> None:
    process.write_file("f", b"drawn")
    signal.raise_signal(signal.SIGTERM)
    await trio.sleep_forever()


@pytest.fixture
def attached(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is nothing to be detached."""

    async def detach(mountpoint: str) -> None:
        await trio.lowlevel.checkpoint()

    monkeypatch.setattr("pdfs.mount.carrier.detach", detach)


@pytest.mark.usefixtures("attached")
async def test_a_second_signal_seals_the_journal_and_gives_the_stage_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in_for_fuse(monkeypatch, draw_and_be_told_to_stop)
    site = Site()
    desk = Desk(tmp_path, site)
    async with trio.open_nursery() as late:
        ctx = stuck_context(site, late)
        with pytest.raises(UnpublishedWork, match="stopped before everything was published"):
            await desk.carry(ctx)
        late.cancel_scope.cancel()
    lock = lock_of(site)
    assert (lock.state, lock.pending) == (LockState.RELEASED, Unpublished(files=1, bytes=5))
    described, segments = left_of(desk)
    assert "stopped before everything" in str(described["why"])
    assert segments == {"journal-1.wal"}, "the journal is not sealed"
    assert [event["state"] for event in desk.events if event["event"] == "state_changed"][-2:] == [
        "RECOVERING",
        "CLOSED",
    ]
    again = site.context(session=ctx.owner.session)
    assert await desk.carry(again, resumes=True, mountpoint=None) == 0
    assert desk.plain("f") == b"drawn"


async def test_a_bug_of_ours_seals_the_journal_and_gives_the_stage_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in_for_fuse(monkeypatch, draw_and_die)
    desk = Desk(tmp_path, Site())
    with pytest.raises((RuntimeError, BaseExceptionGroup)):
        await desk.carry()
    lock = lock_of(desk.site)
    assert (lock.state, lock.pending.files) == (LockState.RELEASED, 1)
    described, segments = left_of(desk)
    assert "a bug of ours" in str(described["why"])
    assert segments == {"journal-1.wal"}


async def test_the_lock_is_kept_where_the_journal_can_not_be_sealed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, expected_warnings: ExpectedWarnings
) -> None:
    stand_in_for_fuse(monkeypatch, draw_and_die)
    desk = Desk(tmp_path, Site())

    def fail(journal: Journal) -> None:
        raise journal_failed

    journal_failed = DiskError("the disk is gone")
    monkeypatch.setattr(Journal, "close", fail)
    with pytest.raises((RuntimeError, BaseExceptionGroup)):
        await desk.carry()
    expected_warnings.take("the lock is kept")
    expected_warnings.take("could not be sealed")  # nor at the very end
    assert lock_of(desk.site).state is LockState.ACTIVE


async def test_a_silent_bucket_holds_up_the_end_for_a_bounded_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pdfs.session._GIVE_BACK", 0.05)
    stand_in_for_fuse(monkeypatch, draw_and_die)
    site = Site()
    desk = Desk(tmp_path, site)

    def fate_of(request: Request) -> Fate:
        return Fate.REQUEST_LOST if request.step is Step.RELEASE_MARK else Fate.FINE

    async with trio.open_nursery() as late:
        with pytest.raises((RuntimeError, BaseExceptionGroup)):
            await desk.carry(site.context(store=site.behind(late, fate_of)))
        late.cancel_scope.cancel()
    assert lock_of(site).state is LockState.ACTIVE
    _, segments = left_of(desk)
    assert segments == {"journal-1.wal"}
