"""One session in a process: what it is told at its end, and that it comes to one."""

import json
import shutil
import signal
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from errno import EFBIG
from pathlib import Path

import pytest
import trio

from pdfs.core.ids import Fence
from pdfs.core.ids import Path as StagePath
from pdfs.core.lease import Unpublished
from pdfs.core.tree import new_tree
from pdfs.disk import OsDisk
from pdfs.errors import DiskError, LockHeld, LockLost, MountError, PdfsError, UnpublishedWork
from pdfs.fs.error import FsError
from pdfs.local.journal_format import HEADER_SIZE
from pdfs.local.state import StateDirectory
from pdfs.mount import showing
from pdfs.mount.workspace import DiskWorkspace
from pdfs.stage.context import StageContext
from pdfs.stage.end import end_session
from pdfs.stage.plain import LARGEST, LARGEST_WHOLE, largest_on
from pdfs.stage.start import start
from pdfs.store.memory import ALL_TRAITS, MemoryStore
from pdfs.store.objects import Fetched
from tests.conftest import ExpectedWarnings
from tests.fs.process import Process
from tests.local.journals import HEADER
from tests.mount.carriers import Desk, draw, idle, stand_in_for_fuse
from tests.mount.test_control import peer_at
from tests.stage.contexts import SIZES, Site, claimant_of

pytestmark = pytest.mark.real_clock

WHOLE_ONLY = replace(ALL_TRAITS, conditional_complete=False)
READ = 0.01
"""Seconds that a program's read may take; each answer of a slow store takes five times as long."""
MOST_GETS = 400


def desk_of(path: Path, site: Site | None = None) -> Desk:
    return Desk(path, site or Site())


# --- the largest file -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("traits", "largest"), [(ALL_TRAITS, LARGEST), (WHOLE_ONLY, LARGEST_WHOLE)]
)
async def test_a_file_larger_than_the_store_can_take_is_refused_at_write(
    traits: object, largest: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def grow(process: Process) -> None:
        process.write_file("f", b"before")
        handle = process.open("f", 2)
        for call in (
            lambda: process.pwrite(handle, b"ab", largest - 1),
            lambda: process.ftruncate(handle, largest + 1),
        ):
            with pytest.raises(FsError) as refused:
                call()
            assert refused.value.errno == EFBIG
        assert process.stat("f").size == 6
        process.ftruncate(handle, largest)
        process.ftruncate(handle, 6)
        process.close(handle)
        await trio.lowlevel.checkpoint()

    assert isinstance(traits, type(ALL_TRAITS))
    assert largest_on(traits) == largest
    stand_in_for_fuse(monkeypatch, grow)
    desk = desk_of(tmp_path, Site(traits=traits))
    assert await desk.carry() == 0
    assert desk.plain("f") == b"before"


# --- names that no key can hold -------------------------------------------------------------------


async def test_an_end_tells_which_files_no_other_tool_sees(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden = [f"{number:03}\udcff" for number in range(101)]
    asked: list[Mapping[str, object]] = []

    async def draw_and_ask(process: Process) -> None:
        for name in ("seen", *hidden):
            process.write_file(name, b"drawn")
        async with peer_at(desk.socket()) as peer:
            asked.append(await peer.ask("status"))

    desk = desk_of(tmp_path)
    stand_in_for_fuse(monkeypatch, draw_and_ask)
    assert await desk.carry() == 0
    assert desk.carrier is not None
    status, told = asked[0]["result"], {"files": 101, "paths": hidden[:100]}
    assert isinstance(status, dict)
    assert status["invisible"] == told
    assert desk.carrier.closed()["invisible"] == told
    assert desk.plain("seen") == b"drawn"


# --- a slow link ----------------------------------------------------------------------------------


class SlowStore(MemoryStore):
    """Each answer with bytes takes longer than a program may wait, and comes."""

    gets = 0

    async def get(
        self, key: str, *, span: tuple[int, int] | None = None, if_match: object = None
    ) -> Fetched:
        if "/planning/" in key and "/.pdfs/" not in key:
            self.gets += 1
            assert self.gets < MOST_GETS, "the same bytes are asked for again and again"
            await trio.sleep(5 * READ)
        return await super().get(key, span=span, if_match=if_match)  # type: ignore[arg-type]  # as given


def slow_site() -> Site:
    site = Site()
    site.store = SlowStore(now=site.now, page_size=3)
    return site


def impatient(site: Site) -> StageContext:
    """Programs wait for an instant, and so does who tries again."""
    timing = replace(site.timing, read=READ, backoff=READ, backoff_limit=READ)
    return replace(site.context(), timing=timing)


async def big_file(site: Site) -> bytes:
    data = bytes(range(256)) * (6 * SIZES.part // 256)
    await site.store.put(site.keys.plain(CHANGED), data, condition=None)
    return data


CHANGED = StagePath("big.dwg")


async def listed(process: Process, name: str) -> None:
    while name not in process.listdir():  # noqa: ASYNC110 - no event says it
        await trio.sleep(0.001)


async def test_a_publish_over_a_link_too_slow_for_programs_is_a_matter_of_time_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def change(process: Process) -> None:
        await listed(process, CHANGED)
        handle = process.open(CHANGED, 2)
        process.pwrite(handle, b"!", 300)
        process.close(handle)

    site = slow_site()
    data = await big_file(site)
    stand_in_for_fuse(monkeypatch, change)
    desk = desk_of(tmp_path, site)
    assert await desk.carry(impatient(site)) == 0
    assert desk.plain(CHANGED) == data[:300] + b"!" + data[301:]


async def test_the_first_write_to_a_big_file_waits_for_nothing_and_starts_the_fetch_of_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, expected_warnings: ExpectedWarnings
) -> None:
    async def change(process: Process) -> None:
        await listed(process, CHANGED)
        handle = process.open(CHANGED, 2)
        process.pwrite(handle, b"!", 300)
        assert await process.pread(handle, 1, 300) == b"!"
        for offset in range(0, len(data), SIZES.part):
            await until_readable(process, handle, offset)
        process.close(handle)

    async def until_readable(process: Process, handle: int, offset: int) -> None:
        while True:
            assert not expected_warnings.records, expected_warnings.messages()
            try:
                await process.pread(handle, SIZES.part, offset)
            except PdfsError:
                await trio.sleep(READ)
            else:
                return

    site = slow_site()
    data = await big_file(site)
    stand_in_for_fuse(monkeypatch, change)
    assert await desk_of(tmp_path, site).carry(impatient(site)) == 0


# --- damage ---------------------------------------------------------------------------------------


async def leave_damaged(desk: Desk) -> bytes:
    """A crashed session on that machine with damage in its journal; the damaged segment."""

    async def no_fetch(*_: object) -> bytes:
        raise AssertionError

    with StateDirectory(OsDisk(), desk.configuration.state) as state:
        header = replace(HEADER, project=desk.site.keys.project, stage=desk.site.keys.stage)
        workspace = DiskWorkspace(OsDisk(), state, header, {}, no_fetch, no_fetch)
        work = await workspace.begin(new_tree(uid=0, gid=0), Fence(1))
        draw(work.ledger, *"abcd")
        await work.sync()
        draw(work.ledger, *"efgh")
        workspace.close()
    segment = desk.sessions()[HEADER.session] / "journal-1.wal.__partial__"
    raw = bytearray(segment.read_bytes())
    raw[HEADER_SIZE + (len(raw.rstrip(b"\0")) - HEADER_SIZE) // 3] ^= 0xFF
    segment.write_bytes(raw)
    return bytes(raw)


@pytest.mark.parametrize("mountpoint", [None, "/mnt/plant"], ids=["recover resume", "mount"])
async def test_a_damaged_journal_ends_with_11_and_goes_to_the_trash(
    mountpoint: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    expected_warnings: ExpectedWarnings,
) -> None:
    asked: list[Mapping[str, object]] = []

    async def ask(_: Process) -> None:
        async with peer_at(desk.socket()) as peer:
            asked.append(await peer.ask("status"))

    desk = desk_of(tmp_path)
    raw = await leave_damaged(desk)
    stand_in_for_fuse(monkeypatch, ask)
    ctx = desk.site.context(session=HEADER.session)
    assert await desk.carry(ctx, resumes=True, mountpoint=mountpoint) == 11
    expected_warnings.take("the journal is damaged")
    assert [event["event"] for event in desk.events].count("damage") == 1
    assert desk.carrier is not None
    closed = desk.carrier.closed()
    assert closed["exit_code"] == 11
    assert "its journal is damaged" in str(closed["damage"])
    for answer in asked:
        assert isinstance(answer["result"], dict)
        assert answer["result"]["damage"] == closed["damage"]
    assert len(asked) == (mountpoint is not None)
    assert desk.plain("a") == b"a"
    assert not desk.sessions()
    trashed = desk.sessions("trash")[HEADER.session]
    assert raw in [path.read_bytes() for path in trashed.rglob("journal-*")]


# --- a lost stage ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("works", "error", "code"), [(True, UnpublishedWork, 9), (False, LockLost, 4)]
)
async def test_a_lost_stage_ends_with_9_where_work_remains_here_and_with_4_where_none_does(
    works: bool,
    error: type[Exception],
    code: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    site = Site()

    async def lose(process: Process) -> None:
        if works:
            process.write_file("f", b"drawn")
        bert = site.context("bert", machine="ws8")
        await start(bert, claimant_of(bert, take_over=True))

    stand_in_for_fuse(monkeypatch, lose)
    desk = desk_of(tmp_path, site)
    with pytest.raises(error) as lost:
        await desk.carry()
    assert isinstance(lost.value, PdfsError)
    assert lost.value.exit_code == code
    assert "taken over by bert on ws8" in lost.value.what
    assert "kept" in lost.value.remedy
    ((_, left),) = desk.sessions().items()
    assert json.loads((left / "session.json").read_text())["why"] == lost.value.what
    assert not desk.has_plain("f")


async def test_who_mounts_a_stage_is_told_whose_session_lost_it_before_its_work_was_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = Site()
    bert, eve = site.context("bert", machine="ws8"), site.context("eve", machine="ws9")
    await start(bert, claimant_of(bert))
    breaker = await start(eve, claimant_of(eve, take_over=True))
    await end_session(eve, breaker.root)
    await breaker.lock.release(Unpublished(), former=breaker.previous)
    stand_in_for_fuse(monkeypatch, idle)
    desk = desk_of(tmp_path, site)
    assert await desk.carry() == 0
    (mounted,) = [event for event in desk.events if event["event"] == "mounted"]
    told = {"session": bert.owner.session, "user": "bert", "machine": "ws8", "files": 0, "bytes": 0}
    assert mounted["unended"] == [told]


async def test_who_does_not_get_the_stage_is_told_so_though_the_disk_fails_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, expected_warnings: ExpectedWarnings
) -> None:
    def fail(state: StateDirectory, held: object) -> None:
        raise DiskError("can't remove the session: Input/output error")

    site = Site()
    bert = site.context("bert", machine="ws8")
    await start(bert, claimant_of(bert))
    monkeypatch.setattr(StateDirectory, "remove", fail)
    with pytest.raises(LockHeld, match="bert"):
        await desk_of(tmp_path, site).carry()
    expected_warnings.take("could not be removed: can't remove the session: Input/output error")


# --- the end of the mount -------------------------------------------------------------------------


@pytest.fixture
def no_detach(monkeypatch: pytest.MonkeyPatch) -> None:
    """fusermount3 is missing, or refuses."""

    async def refuse(mountpoint: str, source: str) -> None:
        await trio.lowlevel.checkpoint()
        raise MountError("fusermount3 can't be run")

    monkeypatch.setattr(showing, "detach", refuse)


@pytest.mark.usefixtures("no_detach")
async def test_a_signal_ends_the_mount_and_publishes_also_where_it_can_not_be_detached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, expected_warnings: ExpectedWarnings
) -> None:
    async def work(process: Process) -> None:
        process.write_file("f", b"drawn")
        signal.raise_signal(signal.SIGTERM)
        await trio.sleep_forever()

    stand_in_for_fuse(monkeypatch, work)
    desk = desk_of(tmp_path)
    assert await desk.carry() == 0
    expected_warnings.take("programs may not have been cut off in order")
    assert desk.plain("f") == b"drawn"


async def test_who_waits_for_an_unmount_is_told_when_another_aborts_the_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not that all of it was published."""
    desk = desk_of(tmp_path)
    answers: dict[str, Mapping[str, object]] = {}
    unmounting = trio.Event()

    async def ask(what: str) -> None:
        async with peer_at(desk.socket()) as peer:
            answers[what] = await peer.ask(what)

    async def hang(mountpoint: str, source: str) -> None:
        unmounting.set()
        await trio.lowlevel.checkpoint()

    async def work(process: Process) -> None:
        process.write_file("f", b"drawn")
        asking.start_soon(ask, "umount")
        await unmounting.wait()
        asking.start_soon(ask, "abort")
        await trio.sleep_forever()

    monkeypatch.setattr(showing, "unmount", hang)
    monkeypatch.setattr(showing, "detach", hang)
    stand_in_for_fuse(monkeypatch, work)
    async with trio.open_nursery() as asking:
        assert await desk.carry() == 0
    assert answers["abort"]["ok"] is True
    assert answers["umount"]["ok"] is False
    error = answers["umount"]["error"]
    assert isinstance(error, dict)
    assert error["exit_code"] == UnpublishedWork.exit_code
    assert "pdfs recover undo" in error["remedy"]
    assert not desk.has_plain("f")


@pytest.mark.usefixtures("no_detach")
async def test_an_abort_that_can_not_detach_ends_the_session_and_is_no_failed_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, expected_warnings: ExpectedWarnings
) -> None:
    """Were it called failed, the next umount would discard what the user believes published."""
    desk = desk_of(tmp_path)
    answers: list[Mapping[str, object]] = []

    async def ask() -> None:
        async with peer_at(desk.socket()) as peer:
            answers.append(await peer.ask("abort"))

    async def work(process: Process) -> None:
        process.write_file("f", b"drawn")
        asking.start_soon(ask)
        await trio.sleep_forever()

    stand_in_for_fuse(monkeypatch, work)
    async with trio.open_nursery() as asking:
        assert await desk.carry() == 0
    expected_warnings.take("programs may not have been cut off in order")
    assert [answer["ok"] for answer in answers] == [True]
    assert not desk.has_plain("f")
    assert not desk.sessions()
    assert len(desk.sessions("trash")) == 1


async def test_a_session_that_died_before_it_had_work_is_ended_without_a_mount(
    tmp_path: Path,
) -> None:
    desk = desk_of(tmp_path)
    with StateDirectory(OsDisk(), desk.configuration.state) as state:
        state.create_session(HEADER.session).close()
    ctx = desk.site.context(session=HEADER.session)
    assert await desk.carry(ctx, resumes=True, mountpoint=None) == 0
    assert not desk.sessions()
    assert desk.site.keys.lock not in desk.site.store.objects


# --- the state directory goes ---------------------------------------------------------------------


def segments_of(state: Path) -> int:
    return len(list(state.glob("sessions/*/journal-*")))


@pytest.mark.parametrize("is_prepared", [True, False])
@pytest.mark.parametrize("what", ["sessions", "."])
async def test_a_mount_whose_journal_is_deleted_takes_no_more_and_publishes_what_it_took(
    what: str,
    is_prepared: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    expected_warnings: ExpectedWarnings,
) -> None:
    desk, taken = desk_of(tmp_path), 0

    async def lose_it(process: Process) -> None:
        nonlocal taken
        process.write_file("a", b"before")
        state = Path(desk.configuration.state)
        while is_prepared and segments_of(state) < 2:  # noqa: ASYNC110 - nothing tells of it
            await trio.sleep(0.01)
        while (state / what).exists():  # the reserve may just be made in it
            shutil.rmtree(state / what, ignore_errors=True)
        with suppress(FsError):
            while True:
                process.write_file(f"f{taken}", b"after")
                taken += 1
                await trio.sleep(0.01)
        assert await process.read_file("a") == b"before"
        assert desk.carrier is not None
        status = await desk.carrier.commands.status()
        assert "were deleted" in str(status["read_only"])

    stand_in_for_fuse(monkeypatch, lose_it)
    assert await desk.carry() == 0
    assert "were deleted" in expected_warnings.take("read-only from here on").getMessage()
    for words in ("can't be kept in order", "its log is not whole"):
        if words in str(expected_warnings.messages()):
            expected_warnings.take(words)
    assert desk.plain("a") == b"before"
    for number in range(taken):
        assert desk.plain(f"f{number}") == b"after"
    lock = desk.site.store.objects.get("Kraftwerk/planning.lock.json")
    assert lock is None or b'"released"' in lock.body
