"""`pdfs publish` on a carrier whose mount is a story."""

import random
from pathlib import Path

import pytest
import trio

from pdfs.core.states import State
from pdfs.mount.control import Result
from pdfs.store.faulty import Fate, Request
from tests.fs.process import Process
from tests.mount.carriers import Desk, stand_in_for_fuse
from tests.stage.contexts import Site


@pytest.fixture(autouse=True)
def no_mount_to_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    async def sync(mountpoint: str) -> None:
        await trio.lowlevel.checkpoint()

    monkeypatch.setattr("pdfs.mount.carrier.sync_mount", sync)


async def test_a_stage_is_published_and_stays_mounted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk(tmp_path, Site())
    answers: list[Result] = []

    async def work(process: Process) -> None:
        assert desk.carrier is not None
        process.write_file("f", b"drawn")
        answers.append(await desk.carrier._publish())
        assert desk.plain("f") == b"drawn"
        assert desk.carrier._session.state is State.ACTIVE
        process.write_file("f", b"drawn on")
        assert (await desk.carrier._status())["unpublished"] == {"files": 1, "bytes": 8}

    stand_in_for_fuse(monkeypatch, work)
    assert await desk.carry() == 0
    assert desk.plain("f") == b"drawn on"
    (answer,) = answers
    assert (answer["exit_code"], answer["is_mounted"]) == (0, True)


async def test_a_conflict_copy_is_told_by_the_publish_that_made_it_and_at_the_end(
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
            answers.append(await desk.carrier._publish())
        assert await process.read_file("f") == b"theirs"

    stand_in_for_fuse(monkeypatch, work)
    assert await desk.carry() == 10
    first, second = answers
    assert (first["exit_code"], second["exit_code"]) == (10, 0)
    assert isinstance(first["conflicts"], list)
    assert [desk.plain(copy) for copy in first["conflicts"]] == [b"ours"]


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
        await desk.carrier._publish()
        assert (await desk.carrier._status())["unpublished"] == {"files": 0, "bytes": 0}
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
        answers.append(await desk.carrier._publish())

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
