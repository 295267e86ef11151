"""Letting go of what nobody needs any more: what stops it, and what it must not touch."""

import itertools
from collections.abc import Callable

import pytest
import trio

from pdfs.core import notes
from pdfs.core.ids import Fence, Path
from pdfs.store.faulty import Fate, Request
from pdfs.store.objects import UploadId
from pdfs.store.step import Step
from tests.simulation.machine import TIMING, Machine
from tests.simulation.world import Visit, idle
from tests.stage.damages import DAMAGES, new
from tests.stage.stages import BIG, SMALL, Stage, published

DAY = 86400.0
ORPHAN = DAMAGES["contents that nothing names"]


def internal(stage: Stage) -> set[str]:
    prefix = stage.world.keys.internal_prefix
    return {key for key in stage.world.store.objects if key.startswith(prefix)}


async def end(stage: Stage) -> list[notes.Note]:
    """A session that edits and ends; the notes of its log."""
    told: list[notes.Note] = []

    def draw(visit: Visit) -> None:
        visit.process.session.on_note = told.append
        visit.editor.write(SMALL, visit.editor.fresh(40))

    assert await stage.edit(draw)
    return told


def collected(told: list[notes.Note]) -> int:
    return sum(note.objects for note in told if isinstance(note, notes.Collected))


async def test_what_was_current_in_the_last_week_stays() -> None:
    async with trio.open_nursery() as nursery:
        stage = await published(nursery)
        before = internal(stage)
        for _ in range(4):
            await trio.sleep(TIMING.kept_for / 2 - 60.0)
            assert not collected(await end(stage))
        assert before < internal(stage)
        nursery.cancel_scope.cancel()


async def test_what_is_older_goes_about_once_a_week_with_all_that_it_alone_names() -> None:
    async with trio.open_nursery() as nursery:
        stage = await published(nursery)
        before = internal(stage)
        sizes = []
        for _ in range(30):
            await trio.sleep(DAY)
            await end(stage)
            sizes.append(len(internal(stage)))
        assert stage.content_key(BIG) in internal(stage), "it is still named"
        trees = [key for key in before if "/trees/" in key]
        assert trees
        assert not internal(stage) & set(trees)
        shrunk = sum(later < earlier for earlier, later in itertools.pairwise(sizes))
        assert 1 <= shrunk <= 4
        assert max(sizes) < 120
        nursery.cancel_scope.cancel()


def dies_at_commit(machine: Machine, request: Request) -> Fate:
    return Fate.CRASH_BEFORE if request.step is Step.COMMIT_ROOT else Fate.FINE


async def test_what_a_session_that_has_not_ended_staged_stays() -> None:
    """Its journal may know where, and need not send it again."""
    async with trio.open_nursery() as nursery:
        stage = await published(nursery)
        before = internal(stage)
        stage.fate.append(dies_at_commit)
        assert not await stage.edit(lambda visit: visit.editor.write(SMALL, b"drawn anew"))
        stage.fate.clear()
        staged = internal(stage) - before
        assert {key.split("/")[3] for key in staged} == {"contents", "trees", "plans"}
        ORPHAN.inject(stage)
        await stage.repair()
        assert staged <= internal(stage)
        (crashed,) = stage.anna.crashed
        assert await stage.world.visit(stage.anna, idle, resume=crashed)
        assert await stage.read(SMALL) == b"drawn anew"
        await stage.repair_all()
        assert not staged & internal(stage), "it has ended, and sent it again"
        nursery.cancel_scope.cancel()


async def test_what_was_written_under_its_own_fence_stays() -> None:
    """It may be under way."""
    async with trio.open_nursery() as nursery:
        stage = await published(nursery)
        key = f"{stage.world.keys.internal_prefix}contents/{stage.root.fence + 1:012}-{'e' * 32}"
        new(key)(stage)
        ORPHAN.inject(stage)
        await stage.repair()
        assert key in internal(stage)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    "name",
    ["the tree before is gone", "the base of a session is gone", "an older root was put back"],
)
async def test_nothing_goes_where_it_can_not_be_told_what_is_needed(name: str) -> None:
    async with trio.open_nursery() as nursery:
        stage = await published(nursery)
        await trio.sleep(5 * DAY)
        await end(stage)
        ORPHAN.inject(stage)
        DAMAGES[name].inject(stage)
        left = internal(stage)
        await stage.repair()
        assert left <= internal(stage)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("is_lock_gone", [True, False])
async def test_nothing_goes_of_a_history_whose_root_began_anew(is_lock_gone: bool) -> None:
    """Who brings the root back from a backup finds all that it names."""
    async with trio.open_nursery() as nursery:
        stage = await published(nursery)
        for _ in range(3):
            await end(stage)
        if not is_lock_gone:
            stage.fate.append(keeps_lock)
            await end(stage)
            stage.fate.clear()
        before = internal(stage)
        stage.rewrite_root(generation=0, fence=Fence(1), tree=None, sessions=())
        for _ in range(9):
            await trio.sleep(20 * DAY)
            await end(stage)
        await stage.repair()
        assert stage.root.generation > 6, "it has more generations by now than the one before"
        assert before <= internal(stage)
        nursery.cancel_scope.cancel()


def keeps_lock(machine: Machine, request: Request) -> Fate:
    """The marker of a released lock stays, and its fence with it."""
    return Fate.REFUSED if request.step is Step.RELEASE_DELETE else Fate.FINE


@pytest.mark.parametrize("initiated", [-3600.0, 3600.0], ids=["before", "after"])
async def test_an_upload_that_another_tool_may_have_under_way_stays(initiated: float) -> None:
    async with trio.open_nursery() as nursery:
        stage = await published(nursery)
        DAMAGES["an upload of a file that nobody goes on with"].inject(stage)
        upload = stage.world.store._uploads[UploadId("dead")]
        upload.initiated += initiated
        ORPHAN.inject(stage)
        assert await stage.repair_all() == 1
        assert UploadId("dead") in stage.world.store._uploads
        upload.key = stage.world.keys.plain(Path("theirs.bin"))
        upload.initiated -= initiated
        assert not await stage.check()
        nursery.cancel_scope.cancel()


def failing(fate: Fate) -> Callable[[Machine, Request], Fate]:
    steps = {Step.COLLECT_LIST, Step.COLLECT_READ, Step.COLLECT_CHECK_ROOT, Step.COLLECT_DELETE}
    return lambda machine, request: fate if request.step in steps else Fate.FINE


@pytest.mark.parametrize("fate", [Fate.REFUSED, Fate.REQUEST_LOST])
async def test_a_collect_that_fails_neither_fails_the_session_nor_delays_it_for_long(
    fate: Fate,
) -> None:
    async with trio.open_nursery() as nursery:
        stage = await published(nursery)
        await trio.sleep(20 * DAY)
        stage.fate.append(failing(fate))
        begun = trio.current_time()
        told = await end(stage)
        assert trio.current_time() - begun < TIMING.collect + 5.0
        assert not collected(told)
        assert len([note for note in told if isinstance(note, notes.NotCollected)]) == 1
        assert stage.world.keys.lock not in stage.world.store.objects
        nursery.cancel_scope.cancel()
