"""What the log of a session tells of what happens to it: carriers at a bucket in memory."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio

from pdfs.errors import UnpublishedWork
from pdfs.stage.start import start
from pdfs.store.faulty import Fate, Request
from pdfs.store.step import Step
from tests.fs.process import Process
from tests.mount.carriers import Desk, idle, stand_in_for_fuse
from tests.stage.contexts import TIMING, Site, claimant_of

pytestmark = pytest.mark.real_clock

QUICK = replace(TIMING, renewal=0.01, answer=0.5, patience=0.05, backoff=0.01, backoff_limit=0.02)


def logged(desk: Desk) -> list[dict[str, Any]]:
    (log,) = Path(desk.configuration.state, "logs").glob("*.jsonl*")
    return [json.loads(line) for line in log.read_bytes().splitlines()]


def steps(desk: Desk) -> list[str]:
    """Events, a state by its name."""
    return [line.get("state", line["event"]) for line in logged(desk)]


def is_ended(desk: Desk) -> bool:
    return bool(list(Path(desk.configuration.state, "logs").glob("*.jsonl")))


async def test_a_publish_is_told_with_its_generation_files_and_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(process: Process) -> None:
        process.write_file("f", b"drawn")
        process.write_file("g", b"drawn, too")
        await trio.lowlevel.checkpoint()

    stand_in_for_fuse(monkeypatch, work)
    desk = Desk(tmp_path, Site())
    assert await desk.carry() == 0
    assert [step for step in steps(desk) if step not in ("taken_in", "fetched")] == [
        "begun",
        "ACQUIRING",
        "lock_taken",
        "DOWNLOADING",
        "ACTIVE",
        "mounted",
        "unmounted",
        "UPLOADING",
        "publish_begun",
        "committed",
        "published",
        "lock_released",
        "CLOSED",
        "outcome",
        "ended",
    ]
    (published,) = [line for line in logged(desk) if line["event"] == "published"]
    chosen = {name: published[name] for name in ("generation", "files", "bytes", "missing")}
    assert chosen == {"generation": 1, "files": 2, "bytes": 15, "missing": 0}
    assert is_ended(desk)


async def test_a_conflict_names_our_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = Site()

    async def clash(process: Process) -> None:
        process.write_file("f", b"ours")
        await site.store.put("Kraftwerk/planning/f", b"theirs", condition=None)

    stand_in_for_fuse(monkeypatch, clash)
    desk = Desk(tmp_path, site)
    assert await desk.carry() == 10
    (conflict,) = [line for line in logged(desk) if line["event"] == "conflict"]
    assert desk.plain(conflict["path"]) == b"ours"
    assert logged(desk)[-1]["totals"]["conflicts"] == 1


async def test_a_lost_stage_is_told_once_and_the_log_waits_for_recovery(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = Site()

    async def lose(process: Process) -> None:
        process.write_file("f", b"drawn")
        bert = site.context("bert", machine="ws8")
        await start(bert, claimant_of(bert, take_over=True))

    stand_in_for_fuse(monkeypatch, lose)
    desk = Desk(tmp_path, site)
    with pytest.raises(UnpublishedWork):
        await desk.carry()
    lines = logged(desk)
    (lost,) = [line for line in lines if line["event"] == "lock_lost"]
    assert "owner" in lost["what"] or "bert" in lost["what"]
    assert (lines[-1]["event"], lines[-1]["kind"]) == ("failed", "UnpublishedWork")
    assert not is_ended(desk)


async def test_a_lock_that_could_not_be_renewed_is_trouble_until_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = Site(timing=QUICK)
    bad = False

    def fate_of(request: Request) -> Fate:
        return Fate.UNAVAILABLE if bad and request.step is Step.RENEW else Fate.FINE

    async def seen(desk: Desk, event: str) -> None:
        while event not in steps(desk):  # noqa: ASYNC110 - a file is waited for
            await trio.sleep(0.01)

    async def work(process: Process) -> None:
        nonlocal bad
        assert desk.carrier is not None
        session = desk.carrier._session
        while not session.is_settled:  # noqa: ASYNC110 - then only the renewal asks the bucket
            await trio.sleep(0.01)
        bad = True
        await seen(desk, "lock_not_renewed")
        await seen(desk, "trouble")
        assert (await desk.carrier.commands.status())["trouble"]
        bad = False
        await seen(desk, "trouble_over")
        assert (await desk.carrier.commands.status())["trouble"] is None

    stand_in_for_fuse(monkeypatch, work)
    desk = Desk(tmp_path, site)
    async with trio.open_nursery() as late:
        assert await desk.carry(site.context(store=site.behind(late, fate_of))) == 0
        late.cancel_scope.cancel()
    told = [step for step in steps(desk) if step in ("trouble", "trouble_over", "unmounted")]
    assert told == ["trouble", "trouble_over", "unmounted"]
    assert is_ended(desk)


def boom() -> None:
    raise RuntimeError("a defect")


def out_of_memory() -> None:
    raise MemoryError("no more")


@pytest.mark.parametrize("defect", [boom, out_of_memory])
async def test_an_exception_that_nobody_handled_is_told_and_the_session_goes_on_in_the_same_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, defect: Callable[[], None]
) -> None:
    site = Site()

    async def fail(process: Process) -> None:
        process.write_file("f", b"drawn")
        await trio.lowlevel.checkpoint()
        defect()

    stand_in_for_fuse(monkeypatch, fail, idle)
    desk = Desk(tmp_path, site)
    ctx = site.context()
    with pytest.raises((RuntimeError, MemoryError)):
        await desk.carry(ctx)
    last = logged(desk)[-1]
    assert last["event"] == "failed"
    assert (last["kind"], last["what"]) in (
        ("RuntimeError", "a defect"),
        ("MemoryError", "no more"),
    )
    assert not is_ended(desk)
    session = ctx.owner.session
    assert await desk.carry(site.context(session=session), resumes=True) == 0
    assert desk.plain("f") == b"drawn"
    after = steps(desk)
    assert after[after.index("failed") + 1] == "resumed"
    assert is_ended(desk)
