"""A stage whose root or tree is gone is no new one: nobody opens it; a repair brings it back."""

from contextlib import suppress
from typing import NoReturn

import pytest
import trio

from pdfs.core import root as core_root
from pdfs.core.ids import Inode, Path
from pdfs.core.restore import ROOM
from pdfs.core.root import Root
from pdfs.errors import LockHeld, LockUnreadable, ObjectDamaged, OtherVersion, PdfsError, StoreError
from pdfs.stage.present import read_present
from pdfs.stage.restore import restore
from pdfs.store.faulty import READ_FATES, WRITE_FATES, Fate, FaultyStore, Network, Request
from tests.conftest import Reached
from tests.lengths import Length
from tests.simulation.world import AWS, POOR, R2, Visit, idle
from tests.stage.contexts import claimant_of
from tests.stage.damages import DAMAGES, cut_short
from tests.stage.stages import AFTER, FILES, HIDDEN, OTHER, REPLACED, SMALL, Stage, published

WEEK = 7 * 86400.0


class Dead(BaseException):
    """The process that repaired was killed."""


def die() -> NoReturn:
    raise Dead


async def check_whole(stage: Stage) -> None:
    """Every file has its bytes, to PDFS and to other tools; anybody may mount and publish it."""
    assert await stage.edit(lambda visit: visit.editor.write(Path("new.dwg"), b"drawn since"))
    for path, data in {**FILES, Path("new.dwg"): b"drawn since"}.items():
        assert await stage.read(path) == data, path
        key = stage.world.keys.plain(path)
        assert path == HIDDEN or stage.world.store.objects[key].body == data
    assert stage.root.plan is None
    assert "link" in stage.tree.by_path(), "what only the tree knows"


# --- who opens it -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["the root is gone", "the root is cut short", "the tree is gone"])
async def test_a_stage_without_root_or_tree_is_opened_by_nobody_and_stays_as_it_is(
    name: str,
) -> None:
    async with trio.open_nursery() as nursery:
        stage = await published(nursery)
        DAMAGES[name].inject(stage)
        plain = dict(stage.world.store.objects)
        with pytest.raises(ObjectDamaged, match="pdfs check Kraftwerk/planning says what is left"):
            await stage.edit(lambda visit: None)
        numbers = iter(range(2, 100))
        with pytest.raises(ObjectDamaged, match="with --repair brings it back"):
            await read_present(stage.context(), lambda: Inode(next(numbers)))
        after = dict(stage.world.store.objects)
        for objects in (plain, after):  # a Start takes the lock to see a tree, and raises the fence
            objects.pop(stage.world.keys.root, None)
        assert after == plain
        assert stage.world.keys.lock not in after
        nursery.cancel_scope.cancel()


async def test_a_stage_whose_first_session_begins_while_it_is_looked_at_is_no_damaged_one() -> None:
    async with trio.open_nursery() as nursery:
        stage = await published(nursery)
        first = stage.world.store.objects[stage.world.keys.root]
        stage.remove(stage.world.keys.root)

        def made_meanwhile(request: Request) -> Fate:
            if request.operation == "list":
                stage.put(stage.world.keys.root, first)
            return Fate.FINE

        network = Network(
            fate_of=made_meanwhile,
            latency=lambda: 0.01,
            lateness=lambda: 1.0,
            nursery=nursery,
            crash=die,
        )
        ctx = stage.context(store=FaultyStore(stage.world.store, network))
        present = await read_present(ctx, lambda: Inode(2))
        assert present.manifest.generation == 2
        nursery.cancel_scope.cancel()


# --- what a session keeps that had it -----------------------------------------------------------


async def test_work_on_a_stage_whose_root_is_deleted_meanwhile_is_published_once_it_is_back() -> (
    None
):
    async with trio.open_nursery() as nursery:
        stage = await published(nursery)

        def draw(visit: Visit) -> None:
            visit.editor.write(SMALL, b"drawn while it was gone")
            stage.remove(stage.world.keys.root)

        with pytest.raises(ObjectDamaged, match="is gone from the bucket"):
            await stage.edit(draw)
        assert stage.world.root() is None, "nobody made another"
        (crashed,) = stage.anna.crashed
        with pytest.raises(ObjectDamaged, match="is gone from the bucket"):
            await stage.world.visit(stage.anna, idle, resume=crashed)
        await stage.restore()
        entry = stage.root.entry(crashed.session)
        assert entry is not None, "its work waits"
        assert entry.last is not None, "it can't be discarded: its publish counts as committed"
        assert await stage.world.visit(stage.anna, idle, resume=crashed)
        assert await stage.read(SMALL) == b"drawn while it was gone"
        assert await stage.read(REPLACED) == AFTER
        assert not stage.root.sessions
        nursery.cancel_scope.cancel()


async def test_a_publish_whose_tree_is_lost_is_made_again_by_the_session_that_resumes() -> None:
    async with trio.open_nursery() as nursery:
        stage = await published(nursery)
        stage.fate.append(cut_short)
        assert not await stage.edit(lambda visit: visit.editor.write(SMALL, b"drawn again"))
        stage.fate.clear()
        DAMAGES["the tree is gone"].inject(stage)
        await stage.restore()
        assert await stage.read(SMALL) == FILES[SMALL]
        assert await stage.world.visit(stage.anna, idle, resume=stage.anna.crashed[0])
        assert await stage.read(SMALL) == b"drawn again"
        assert not await stage.repair_all() or not await stage.repair_all()
        nursery.cancel_scope.cancel()


# --- who brings it back -------------------------------------------------------------------------


async def test_a_stage_that_somebody_has_is_not_given_a_root_without_a_take_over() -> None:
    async with trio.open_nursery() as nursery:
        stage = await published(nursery)

        async def serve(visit: Visit) -> None:
            visit.editor.write(SMALL, b"drawn meanwhile")
            stage.remove(stage.world.keys.root)
            carl = stage.context()
            with pytest.raises(LockHeld, match="locked by anna"):
                await restore(carl, claimant_of(carl))
            assert stage.world.root() is None
            assert await restore(carl, claimant_of(carl, take_over=True)) is not None

        with pytest.raises(PdfsError):
            await stage.world.visit(stage.anna, serve)
        (crashed,) = stage.anna.crashed
        assert await stage.world.visit(stage.anna, idle, resume=crashed)
        assert await stage.read(SMALL) == b"drawn meanwhile"
        nursery.cancel_scope.cancel()


async def test_a_torn_lock_keeps_the_root_away_until_a_take_over() -> None:
    async with trio.open_nursery() as nursery:
        stage = await published(nursery)
        DAMAGES["the lock is torn"].inject(stage)
        stage.remove(stage.world.keys.root)
        with pytest.raises(LockUnreadable):
            await stage.restore()
        anna = stage.context("anna")
        assert await restore(anna, claimant_of(anna, take_over=True)) is not None
        nursery.cancel_scope.cancel()


async def test_of_two_repairs_at_once_one_makes_the_root_and_the_other_finds_it() -> None:
    async with trio.open_nursery() as nursery:
        stage = await published(nursery)
        stage.remove(stage.world.keys.root)
        made = []

        async def bring_back(user: str) -> None:
            ctx = stage.context(user)
            made.append(await restore(ctx, claimant_of(ctx)))

        async with trio.open_nursery() as both:
            both.start_soon(bring_back, "anna")
            both.start_soon(bring_back, "bert")
        assert sum(past is not None for past in made) == 1
        await check_whole(stage)
        nursery.cancel_scope.cancel()


async def test_what_is_for_a_newer_pdfs_is_left_to_that() -> None:
    async with trio.open_nursery() as nursery:
        stage = await published(nursery)
        DAMAGES["the tree is for a newer PDFS"].inject(stage)
        for gone in (False, True):
            if gone:
                stage.remove(stage.world.keys.root)
            before = dict(stage.world.store.objects)
            with pytest.raises(OtherVersion):
                await stage.restore()
            assert stage.world.store.objects == before
        nursery.cancel_scope.cancel()


# --- what becomes of it -------------------------------------------------------------------------


async def test_the_new_root_has_a_fence_above_all_that_left_a_trace() -> None:
    async with trio.open_nursery() as nursery:
        stage = await published(nursery)
        high = f"{stage.world.keys.internal_prefix}contents/000000004711-{'e' * 32}"
        old = stage.world.store.objects[stage.content_key(OTHER)]
        stage.put(high, old)
        stage.world.store._keys = sorted(stage.world.store._objects)
        stage.remove(stage.world.keys.root)
        await stage.restore()
        assert stage.root.fence == 4711 + ROOM
        await check_whole(stage)
        nursery.cancel_scope.cancel()


async def test_what_was_there_before_stays_for_a_week_and_then_goes() -> None:
    async with trio.open_nursery() as nursery:
        stage = await published(nursery)
        DAMAGES["contents that nothing names"].inject(stage)
        (left,) = [each.path for each in await stage.check()]
        DAMAGES["root and tree are gone"].inject(stage)
        await stage.repair_all()
        assert left in stage.world.store.objects
        assert [each.kind for each in await stage.check()] == ["restored"]
        await trio.sleep(WEEK + 100)
        assert "object" in {each.kind for each in await stage.check()}
        await stage.repair_all()
        assert left not in stage.world.store.objects
        assert not await stage.check()
        nursery.cancel_scope.cancel()


@pytest.mark.figure(name="K1")
@pytest.mark.parametrize("fate", sorted(READ_FATES | WRITE_FATES))
@pytest.mark.parametrize("name", ["the root is gone", "the tree is gone"])
async def test_a_repair_that_meets_any_trouble_at_any_request_is_done_by_the_next(
    name: str, fate: Fate, seed: int, length: Length, reached: Reached
) -> None:
    stride = length.pick(sample=8, full=1, long=1) if fate in READ_FATES else 1
    number, met = 1 + seed % stride, 0
    while True:
        async with trio.open_nursery() as nursery:
            stage = await published(nursery, (AWS, R2, POOR)[number % 3])
            DAMAGES[name].inject(stage)
            is_met = await troubled(stage, nursery, number, fate)
            await trio.sleep(10_000)  # what is late has arrived
            await stage.restore()
            await check_restored(stage)
            nursery.cancel_scope.cancel()
        met += is_met
        number += stride
        if not is_met or fate not in READ_FATES:
            break
    assert met, "nothing was tested"
    reached(met, "requests of repairs that met trouble")


async def troubled(stage: Stage, nursery: trio.Nursery, number: int, fate: Fate) -> bool:
    """A repair whose request of that number, or whose write, has that fate; whether it has one."""
    left = number if fate in READ_FATES else 1

    def fate_of(request: Request) -> Fate:
        nonlocal left
        left -= fate in READ_FATES or request.is_write
        return fate if left == 0 and (fate in READ_FATES or request.is_write) else Fate.FINE

    network = Network(
        fate_of=fate_of,
        latency=lambda: 0.01,
        lateness=lambda: 1000.0,
        nursery=nursery,
        crash=die,
    )
    ctx = stage.context("anna", store=FaultyStore(stage.world.store, network))
    with suppress(Dead, StoreError):
        await restore(ctx, claimant_of(ctx))
    return left <= 0


async def check_restored(stage: Stage) -> None:
    roots = [c for c in stage.world.store.history if c.key == stage.world.keys.root and c.stored]
    fences = [decoded(change.stored.body).fence for change in roots if change.stored]
    assert fences == sorted(fences), "no root came after a newer one"
    await check_whole(stage)


def decoded(body: bytes) -> Root:
    return core_root.decode("root.json", body)
