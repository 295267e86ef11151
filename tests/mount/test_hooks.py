"""A session that is cut short, while its hooks can still run: sealed, noted, and given back."""

import json
import signal
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import trio

from pdfs.core import lease
from pdfs.core.lease import LockState, Unpublished
from pdfs.core.tree import Tree
from pdfs.errors import DiskError, DiskFull, Stopped, UnpublishedWork
from pdfs.local.journal import Journal
from pdfs.mount import showing, stopping
from pdfs.mount.workspace import DiskWorkspace
from pdfs.session import StageSession
from pdfs.stage.catch_up import Standing
from pdfs.stage.context import StageContext
from pdfs.stage.publishing import Publishing
from pdfs.stage.work import Work
from pdfs.store.faulty import Fate, Request
from pdfs.store.step import Step
from tests.conftest import ExpectedWarnings
from tests.fs.process import Process
from tests.mount.carriers import Desk, idle, stand_in_for_fuse
from tests.mount.test_control import peer_at
from tests.stage.contexts import Site

pytestmark = pytest.mark.real_clock


def lock_of(site: Site) -> lease.Lock:
    return lease.decode(site.keys.lock, site.store.objects[site.keys.lock].body)


def session_of(desk: Desk) -> StageSession:
    assert desk.carrier is not None
    return desk.carrier._session


async def until(is_so: Callable[[], bool]) -> None:
    while not is_so():  # noqa: ASYNC110 - a file tells nobody of it
        await trio.sleep(0.001)


def left_of(desk: Desk) -> tuple[dict[str, object], set[str]]:
    """What the one session left here: its description, and the names of its segments."""
    ((_, path),) = desk.sessions().items()
    described = json.loads((path / "session.json").read_text())
    return described, {each.name for each in path.glob("journal-*")}


def logs_of(desk: Desk) -> list[tuple[str, str]]:
    """The suffix and the text of each session log."""
    found = Path(desk.configuration.state, "logs").glob("*.jsonl*")
    return [(path.suffix, path.read_text()) for path in found]


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


@pytest.fixture(autouse=True)
def _short_breath(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopping, "ONE_BREATH", 0.0)


async def draw_and_be_told_to_stop(process: Process) -> None:
    process.write_file("f", b"drawn")
    signal.raise_signal(signal.SIGTERM)
    await trio.sleep_forever()


@pytest.fixture
def attached(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is nothing to be detached."""

    async def detach(mountpoint: str, device: str | None) -> None:
        await trio.lowlevel.checkpoint()

    monkeypatch.setattr("pdfs.mount.showing.detach", detach)


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
    assert described["why"] == "it was stopped by a second signal, SIGTERM"
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
    ((_, log),) = logs_of(desk)
    assert "the lock stays: the bucket did not answer" in log


@pytest.mark.usefixtures("attached")
async def test_what_is_not_published_when_the_time_is_up_is_sealed_and_the_stage_given_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in_for_fuse(monkeypatch, draw_and_be_told_to_stop)
    monkeypatch.setenv("PDFS_STOP_TIMEOUT", "0.3")
    site = Site()
    desk = Desk(tmp_path, site)
    async with trio.open_nursery() as late:
        ctx = site.context(store=site.behind(late, lose(Step.STAGE_CONTENT)))
        with pytest.raises(UnpublishedWork, match="s after SIGTERM, as stop_timeout says"):
            await desk.carry(ctx)
        late.cancel_scope.cancel()
    lock = lock_of(site)
    assert (lock.state, lock.pending) == (LockState.RELEASED, Unpublished(files=1, bytes=5))
    described, segments = left_of(desk)
    assert described["why"] == "it was stopped 0.3 s after SIGTERM, as stop_timeout says"
    assert segments == {"journal-1.wal"}


def lose(*steps: Step) -> Callable[[Request], Fate]:
    """A bucket that hears nothing of these steps."""
    return lambda request: Fate.REQUEST_LOST if request.step in steps else Fate.FINE


@pytest.mark.parametrize(
    "step", [Step.START_READ_LOCK, Step.START_TAKE_LOCK, Step.START_WRITE_ROOT, Step.LOAD_LISTING]
)
@pytest.mark.parametrize("is_silent", [False, True], ids=["then answers", "silent for good"])
async def test_a_signal_before_the_mount_ends_it_soon_and_leaves_nothing_or_what_can_be_taken_up(
    step: Step, is_silent: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if is_silent:
        monkeypatch.setattr("pdfs.session._GIVE_BACK", 0.05)
    stand_in_for_fuse(monkeypatch, idle)
    site = Site()
    desk = Desk(tmp_path, site)
    is_stopped, released = False, 0

    def fate_of(request: Request) -> Fate:
        nonlocal is_stopped, released
        released += request.step is Step.RELEASE_MARK
        if request.step is step and not is_stopped:
            is_stopped = True
            signal.raise_signal(signal.SIGTERM)
            return Fate.REQUEST_LOST
        return Fate.REQUEST_LOST if is_stopped and is_silent else Fate.FINE

    async with trio.open_nursery() as late:
        with pytest.raises(Stopped, match="by SIGTERM, before it was mounted") as stopped:
            await desk.carry(site.context(store=site.behind(late, fate_of)))
        late.cancel_scope.cancel()
    is_taken = step is Step.LOAD_LISTING
    assert released <= is_taken, "what was given back is released once more"
    assert ("the lock stays" in stopped.value.remedy) is (is_taken and is_silent)
    assert not (is_taken and not is_silent and desk.sessions()), "what was given back is kept"
    stand_in_for_fuse(monkeypatch, idle)
    for session in desk.sessions() or [None]:
        again = site.context() if session is None else site.context(session=session)
        assert await desk.carry(again, resumes=session is not None) == 0
    assert not desk.sessions()


async def test_a_disk_that_takes_no_note_keeps_nobody_from_giving_the_stage_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, expected_warnings: ExpectedWarnings
) -> None:
    stand_in_for_fuse(monkeypatch, draw_and_die)
    desk = Desk(tmp_path, Site())

    def fail(workspace: DiskWorkspace, why: str) -> None:
        raise DiskFull("no room")

    monkeypatch.setattr(DiskWorkspace, "note_end", fail)
    with pytest.raises((RuntimeError, BaseExceptionGroup)):
        await desk.carry()
    expected_warnings.take("could not be written down")
    assert lock_of(desk.site).state is LockState.RELEASED


async def test_who_waits_for_an_unmount_is_told_when_the_daemon_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk(tmp_path, Site())
    answers: list[Mapping[str, object]] = []
    asking = trio.Event()

    async def ask() -> None:
        async with peer_at(desk.socket()) as peer:
            answers.append(await peer.ask("umount"))

    async def unmount(mountpoint: str, source: str) -> None:
        asking.set()
        await trio.lowlevel.checkpoint()

    async def work(process: Process) -> None:
        process.write_file("f", b"drawn")
        nursery.start_soon(ask)
        await asking.wait()
        raise MemoryError

    monkeypatch.setattr(showing, "unmount", unmount)
    stand_in_for_fuse(monkeypatch, work)
    async with trio.open_nursery() as nursery:
        with pytest.raises((MemoryError, BaseExceptionGroup)):
            await desk.carry()
    (answer,) = answers
    error = answer["error"]
    assert isinstance(error, dict)
    assert error["exit_code"] == UnpublishedWork.exit_code
    assert "the daemon failed before everything was published: MemoryError()" in error["what"]


async def test_who_asks_for_an_unmount_before_there_is_a_mount_gets_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the answer would come with the end of a mount that nobody ends."""
    desk = Desk(tmp_path, Site())
    answers: list[Mapping[str, object]] = []
    unmounted = trio.Event()

    async def ask() -> None:
        async with peer_at(desk.socket()) as peer:
            answers.append(await peer.ask("umount"))

    async def unmount(mountpoint: str, source: str) -> None:
        unmounted.set()
        await trio.lowlevel.checkpoint()

    async def work(process: Process) -> None:
        await unmounted.wait()

    real = StageSession._load

    async def load(self: StageSession) -> Tree:
        nursery.start_soon(ask)
        await trio.sleep(0.1)  # the request is there before the mount is
        return await real(self)

    monkeypatch.setattr(showing, "unmount", unmount)
    monkeypatch.setattr(StageSession, "_load", load)
    stand_in_for_fuse(monkeypatch, work)
    async with trio.open_nursery() as nursery:
        with trio.fail_after(30):
            assert await desk.carry() == 0
    assert [answer["ok"] for answer in answers] == [True]


async def test_who_is_told_of_the_end_finds_the_session_free_and_its_log_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk(tmp_path, Site())
    found: list[tuple[bool, list[str]]] = []

    async def ask() -> None:
        async with peer_at(desk.socket()) as peer:
            assert (await peer.ask("umount"))["ok"]
            found.append((bool(desk.sessions()), [suffix for suffix, _ in logs_of(desk)]))

    async def unmount(mountpoint: str, source: str) -> None:
        await trio.lowlevel.checkpoint()
        unmounted.set()

    async def work(process: Process) -> None:
        nursery.start_soon(ask)
        await unmounted.wait()

    unmounted = trio.Event()
    monkeypatch.setattr(showing, "unmount", unmount)
    stand_in_for_fuse(monkeypatch, work)
    async with trio.open_nursery() as nursery:
        assert await desk.carry() == 0
    assert found == [(False, [".jsonl"])]


async def test_a_signal_after_the_unmount_leaves_time_to_publish_while_a_plan_is_being_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such a plan is another's, and takes a minute; who waits for the stage sees that it ends."""
    desk = Desk(tmp_path, Site())
    is_told = trio.Event()
    real = Publishing.catch_up

    async def catch_up(self: Publishing, work: Work, *, ends: bool = False) -> Standing:
        await is_told.wait()
        return await real(self, work, ends=ends)

    async def stop() -> None:
        with trio.fail_after(30):
            await until(lambda: not session_of(desk).is_serving)
            await until(lambda: lock_of(desk.site).state is LockState.DRAINING)
            signal.raise_signal(signal.SIGTERM)
            await until(lambda: any("SIGTERM" in text for _, text in logs_of(desk)))
        is_told.set()

    async def work(process: Process) -> None:
        process.write_file("f", b"drawn")
        nursery.start_soon(stop)

    monkeypatch.setattr(Publishing, "catch_up", catch_up)
    stand_in_for_fuse(monkeypatch, work)
    async with trio.open_nursery() as nursery:
        assert await desk.carry() == 0
    assert desk.plain("f") == b"drawn"
