"""`pdfs publish` on a carrier whose mount is a story."""

import json
import math
import os
import random
from pathlib import Path

import pytest
import trio

from pdfs.core.ids import Path as KeyPath
from pdfs.core.lease import Unpublished
from pdfs.core.states import State
from pdfs.errors import (
    MountError,
    PdfsError,
    SessionError,
    UnpublishedWork,
)
from pdfs.fs.error import FsError
from pdfs.mount.control import Result
from pdfs.stage.load import read_tree
from pdfs.stage.lock import HeldLock, read_lock
from pdfs.stage.root import read_root
from pdfs.store.faulty import Fate, Request
from pdfs.store.step import Step
from tests.fs.process import Process
from tests.mount.carriers import Desk, stand_in_for_fuse
from tests.stage.contexts import Site
from tests.stage.works import sit_down


def logged(desk: Desk) -> list[str]:
    """The events of the one session that is over."""
    (log,) = Path(desk.configuration.state, "logs").glob("*.jsonl")
    return [json.loads(line)["event"] for line in log.read_text().splitlines()]


@pytest.fixture(autouse=True)
def no_mount_to_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    async def sync(mountpoint: str) -> None:
        await trio.lowlevel.checkpoint()

    monkeypatch.setattr("pdfs.mount.commands.sync_mount", sync)


async def test_a_stage_is_published_and_stays_mounted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk(tmp_path, Site())
    answers: list[Result] = []

    async def work(process: Process) -> None:
        assert desk.carrier is not None
        process.write_file("f", b"drawn")
        answers.append(await desk.carrier.commands.publish())
        assert desk.plain("f") == b"drawn"
        assert desk.carrier._session.state is State.ACTIVE
        process.write_file("f", b"drawn on")
        assert (await desk.carrier.commands.status())["unpublished"] == {"files": 1, "bytes": 8}

    stand_in_for_fuse(monkeypatch, work)
    assert await desk.carry() == 0
    assert desk.plain("f") == b"drawn on"
    (answer,) = answers
    assert (answer["exit_code"], answer["is_mounted"]) == (0, True)


async def test_a_conflict_copy_is_told_once_to_who_asked_for_the_publish_that_made_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = Site()
    desk = Desk(tmp_path, site)
    answers: list[Result] = []

    async def work(process: Process) -> None:
        assert desk.carrier is not None
        process.write_file("f", b"ours")
        await site.store.put("Kraftwerk/planning/f", b"theirs", condition=None)
        for _ in range(2):
            answers.append(await desk.carrier.commands.publish())
        assert await process.read_file("f") == b"theirs"

    stand_in_for_fuse(monkeypatch, work)
    assert await desk.carry() == 0
    first, second = answers
    assert (first["exit_code"], second["exit_code"]) == (10, 0)
    assert isinstance(first["conflicts"], list)
    assert [desk.plain(copy) for copy in first["conflicts"]] == [b"ours"]


async def test_a_conflict_copy_of_a_publish_that_nobody_asked_for_is_told_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = Site()
    desk = Desk(tmp_path, site)

    async def work(process: Process) -> None:
        assert desk.carrier is not None
        process.write_file("f", b"ours")
        await site.store.put("Kraftwerk/planning/f", b"theirs", condition=None)
        await desk.carrier.commands._publish_now()

    stand_in_for_fuse(monkeypatch, work)
    assert await desk.carry() == 10


async def test_what_stays_though_it_was_removed_is_told_once_to_who_asked_or_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = Site()
    desk = Desk(tmp_path, site)
    names = ("asked", "unasked")
    for name in names:
        await site.store.put(f"Kraftwerk/planning/{name}", b"first", condition=None)
    answers: list[Result] = []

    async def work(process: Process) -> None:
        assert desk.carrier is not None
        commands = desk.carrier.commands
        for name in names:
            await site.store.put(f"Kraftwerk/planning/{name}", b"theirs", condition=None)
            process.unlink(name)
            publish = commands.publish if name == "asked" else commands._publish_now
            answers.append(await publish())
            assert await process.read_file(name) == b"theirs"
        answers.append(await commands.status())

    stand_in_for_fuse(monkeypatch, work)
    assert await desk.carry() == 0
    assert [answer["not_removed"] for answer in answers] == [["asked"], ["unasked"], [*names]]
    assert desk.carrier is not None
    assert desk.carrier.closed()["not_removed"] == ["unasked"]


async def test_an_abort_amid_a_publish_is_refused_and_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk(tmp_path, Site())

    async def work(process: Process) -> None:
        assert desk.carrier is not None
        process.write_file("f", b"drawn")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(desk.carrier.commands.publish)
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(SessionError, match="a publish is under way") as refused:
                await desk.carrier.commands.abort()
        assert "let it end" in refused.value.remedy

    stand_in_for_fuse(monkeypatch, work)
    assert await desk.carry() == 0
    assert desk.plain("f") == b"drawn"


@pytest.mark.parametrize("size", [5, 600], ids=["packed", "in parts"])
async def test_what_was_published_is_read_without_the_bucket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    site, data = Site(), random.Random(size).randbytes(size)
    is_away = False

    def fate_of(request: Request) -> Fate:
        return Fate.UNAVAILABLE if is_away else Fate.FINE

    async def work(process: Process) -> None:
        nonlocal is_away
        assert desk.carrier is not None
        process.write_file("f", data)
        await desk.carrier.commands.publish()
        assert (await desk.carrier.commands.status())["unpublished"] == {"files": 0, "bytes": 0}
        is_away = True
        assert await process.read_file("f") == data
        is_away = False

    stand_in_for_fuse(monkeypatch, work)
    desk = Desk(tmp_path, site, quota=1 << 20)
    async with trio.open_nursery() as late:
        assert await desk.carry(site.context(store=site.behind(late, fate_of))) == 0
        late.cancel_scope.cancel()


async def test_an_unmount_amid_a_publish_ends_both_with_everything_in_the_bucket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk(tmp_path, Site())
    answers: list[Result] = []

    async def publish() -> None:
        assert desk.carrier is not None
        answers.append(await desk.carrier.commands.publish())

    async with trio.open_nursery() as nursery:

        async def work(process: Process) -> None:
            process.write_file("f", b"drawn")
            nursery.start_soon(publish)
            await trio.testing.wait_all_tasks_blocked()
            process.write_file("g", b"late")

        stand_in_for_fuse(monkeypatch, work)
        assert await desk.carry() == 0
    assert (desk.plain("f"), desk.plain("g")) == (b"drawn", b"late")
    assert [answer["exit_code"] for answer in answers] == [0]


async def test_a_mount_publishes_every_so_often_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk(tmp_path, Site())

    async def work(process: Process) -> None:
        process.write_file("f", b"drawn")
        with trio.fail_after(60.0):
            while not desk.has_plain("f"):  # noqa: ASYNC110 - the bucket tells nobody
                await trio.sleep(0.01)

    stand_in_for_fuse(monkeypatch, work)
    assert await desk.carry(every=0.05) == 0


# --- what others do meanwhile ---------------------------------------------------------------------


async def test_a_program_that_saves_again_what_it_has_in_memory_overwrites_nobody_unseen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its file became a conflict copy at a publish that nobody waited for."""
    site, names = Site(), ("renamed", "emptied", "removed", "read")
    desk = Desk(tmp_path, site)

    async def work(process: Process) -> None:
        assert desk.carrier is not None
        for name in names:
            process.write_file(name, b"ours 1")
        await desk.carrier.commands.publish()
        for name in names:
            await site.store.put(f"Kraftwerk/planning/{name}", b"theirs", condition=None)
            process.write_file(name, b"ours 2")
        await desk.carrier.commands.publish()
        process.write_file("renamed.tmp", b"ours 3")
        process.rename("renamed.tmp", "renamed")
        process.write_file("emptied", b"ours 3")
        process.unlink("removed")
        assert await process.read_file("read") == b"theirs"
        process.write_file("read", b"ours 3")

    stand_in_for_fuse(monkeypatch, work)
    assert await desk.carry() == 10
    assert [desk.plain(name) for name in names] == [b"theirs"] * 3 + [b"ours 3"]
    copies = [desk.plain(path) for path in desk.conflicts()]
    assert sorted(copies) == [b"ours 2"] * 4 + [b"ours 3"] * 2


async def test_a_file_that_is_open_is_read_though_a_publish_replaced_its_object(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site, old = Site(), b"old model" * 30
    desk = Desk(tmp_path, site)
    await site.store.put("Kraftwerk/planning/model.dwg", old, condition=None)

    async def work(process: Process) -> None:
        assert desk.carrier is not None
        handle = process.open("model.dwg", os.O_RDONLY)
        process.write_file("model.tmp", b"new model")
        process.rename("model.tmp", "model.dwg")
        await desk.carrier.commands.publish()
        assert await process.pread(handle, len(old), 0) == old
        process.close(handle)

    stand_in_for_fuse(monkeypatch, work)
    assert await desk.carry() == 0


async def test_a_stage_that_another_had_and_published_meanwhile_is_published_over_by_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """anna's commit passes, its answer is lost, and so is her network, until he has ended."""
    site, is_away, committed = Site(), False, trio.Event()
    desk = Desk(tmp_path, site)

    def fate_of(request: Request) -> Fate:
        nonlocal is_away
        if request.step is Step.COMMIT_ROOT and not committed.is_set():
            committed.set()
            is_away = True
            return Fate.ANSWER_LOST
        return Fate.REQUEST_LOST if is_away else Fate.FINE

    async def work(process: Process) -> None:
        nonlocal is_away
        assert desk.carrier is not None
        process.write_file("f", b"ours")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(publish_in_vain, desk)
            await committed.wait()
            await trio.sleep(1.0)  # until that request has arrived
            await be_ben(site)
            await trio.sleep(site.timing.patience + 15.0)  # until she begins with a Start
            is_away = False
        assert desk.carrier._session.lost is not None
        with pytest.raises(FsError, match="Read-only"):
            process.write_file("g", b"more")

    stand_in_for_fuse(monkeypatch, work)
    async with trio.open_nursery() as late:
        with pytest.raises(PdfsError):
            await desk.carry(site.context(store=site.behind(late, fate_of)))
        late.cancel_scope.cancel()
    root = await read_root(site.context())
    assert root is not None
    paths = {entry.path for entry in (await read_tree(site.context(), root.root.tree)).entries}
    assert paths == {"f", "bens.txt", "bad\udcff"}


async def publish_in_vain(desk: Desk) -> None:
    assert desk.carrier is not None
    with pytest.raises(UnpublishedWork):
        await desk.carrier.commands.publish()


async def be_ben(site: Site) -> None:
    """Take the stage over, finish her plan, publish, end, and release."""
    ctx = site.context("ben", machine="ws9")
    ben = await sit_down(site, ctx)
    ben.editor.write(KeyPath("bens.txt"), b"ben's work")
    ben.editor.write(KeyPath("bad\udcff"), b"no key can hold this name")
    await ben.save()
    seen = await read_lock(ctx)
    assert seen is not None
    assert seen.lock is not None
    await HeldLock(ctx, seen.lock, seen.etag).release(Unpublished())


async def test_a_publish_whose_answer_was_lost_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And by who asked for it, not by the end, which has nothing to publish."""
    site, until = Site(), math.inf
    desk = Desk(tmp_path, site)

    def fate_of(request: Request) -> Fate:
        nonlocal until
        if request.step is Step.COMMIT_ROOT and until == math.inf:
            until = trio.current_time() + site.timing.patience + 15.0
            return Fate.ANSWER_LOST
        return Fate.REQUEST_LOST if trio.current_time() < until < math.inf else Fate.FINE

    async def work(process: Process) -> None:
        assert desk.carrier is not None
        process.write_file("f", b"drawn")
        await desk.carrier.commands.publish()
        assert [each["event"] for each in desk.logged()].count("published") == 1

    stand_in_for_fuse(monkeypatch, work)
    async with trio.open_nursery() as late:
        assert await desk.carry(site.context(store=site.behind(late, fate_of))) == 0
        late.cancel_scope.cancel()
    assert [line["files"] for line in desk.logged() if line["event"] == "published"] == [1]


async def test_a_publish_that_would_lack_mapped_pages_does_not_begin_and_can_be_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk(tmp_path, Site())
    failures = [MountError("the kernel has not written it")]

    async def sync(mountpoint: str) -> None:
        await trio.lowlevel.checkpoint()
        if failures:
            raise failures.pop()

    async def work(process: Process) -> None:
        assert desk.carrier is not None
        process.write_file("f", b"drawn")
        with pytest.raises(MountError, match="nothing was published: the kernel has not written"):
            await desk.carrier.commands.publish()
        assert not desk.has_plain("f")
        assert "the kernel has not written it" in str(
            (await desk.carrier.commands.status())["trouble"]
        )
        assert (await desk.carrier.commands.publish())["exit_code"] == 0
        assert desk.plain("f") == b"drawn"
        assert (await desk.carrier.commands.status())["trouble"] is None

    monkeypatch.setattr("pdfs.mount.commands.sync_mount", sync)
    stand_in_for_fuse(monkeypatch, work)
    assert await desk.carry() == 0
    events = logged(desk)
    assert events.index("trouble") < events.index("trouble_over") < events.index("publish_begun")
