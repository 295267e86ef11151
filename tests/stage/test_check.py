"""Every kind of damage is found; a repair loses no intact file, and a second one does nothing."""

from collections.abc import AsyncIterator, Sequence

import pytest
import trio

from pdfs.core.check import findings
from pdfs.core.finding import Finding, Level
from pdfs.core.ids import Path, PublishId
from pdfs.errors import ContentLost, LockLost, StoreRefused
from pdfs.stage.check import look_at
from pdfs.stage.load import read_plan
from pdfs.stage.repair import remake_plan
from pdfs.stage.start import start
from pdfs.store.memory import MemoryStore
from pdfs.store.objects import ListedUpload, Traits
from tests.conftest import Reached
from tests.simulation.world import AWS, POOR, R2
from tests.stage.contexts import Site, claimant_of
from tests.stage.damages import DAMAGES, Damage, cut_short
from tests.stage.stages import BIG, FILES, HIDDEN, SMALL, Stage, published
from tests.stage.works import sit_down

EVERY_DAMAGE = pytest.mark.parametrize("name", DAMAGES)
REDRAWN = b"drawn by anna, and again"


def files_after(damage: Damage) -> dict[Path, bytes]:
    """What the stage holds in spite of it."""
    files = dict(FILES)
    if damage.is_amid_publish and not damage.is_undone:
        files[SMALL] = files[Path("linked.dwg")] = REDRAWN
    return files


async def harmed(
    nursery: trio.Nursery, damage: Damage, traits: Traits, *, waits: bool = True
) -> Stage:
    stage = await published(nursery, traits)
    if damage.is_amid_publish:
        stage.fate.append(cut_short)
        assert not await stage.edit(lambda visit: visit.editor.write(SMALL, REDRAWN))
        stage.fate.clear()
        await trio.sleep(600 * waits)  # nobody takes her for alive
    damage.inject(stage)
    return stage


def is_named(damage: Damage, found: list[Finding]) -> bool:
    return any(
        (each.level, each.kind) == (damage.level, damage.kind) and each.path.endswith(damage.named)
        for each in found
    )


async def test_a_sound_stage_has_no_findings() -> None:
    async with trio.open_nursery() as nursery:
        stage = await published(nursery)
        assert not await stage.check()
        nursery.cancel_scope.cancel()


async def test_a_bucket_that_hides_its_uploads_is_checked_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def refuse(_: MemoryStore, prefix: str) -> AsyncIterator[Sequence[ListedUpload]]:
        if prefix:
            raise StoreRefused("no right to list uploads")
        yield []

    async with trio.open_nursery() as nursery:
        stage = await published(nursery)
        DAMAGES["contents that nothing names"].inject(stage)
        monkeypatch.setattr(MemoryStore, "list_uploads", refuse)
        assert [each.kind for each in await stage.check()] == ["object", "uploads"]
        assert await stage.repair_all() == 1
        assert [each.kind for each in await stage.check()] == ["uploads"]
        nursery.cancel_scope.cancel()


async def test_a_publish_under_way_is_its_publishers_and_one_cut_short_the_next_mounts() -> None:
    async with trio.open_nursery() as nursery:
        stage = await harmed(nursery, DAMAGES["a publish was cut short"], AWS, waits=False)
        (found,) = await stage.check()
        assert (found.kind, found.is_repairable) == ("plan", False)
        assert found.remedy == "none: anna on ws1 has the stage, and is at it"
        crashed = {disk.session for disk in stage.anna.crashed}
        for seconds, known in ((0, crashed), (600, frozenset())):
            await trio.sleep(seconds)
            plan, session = findings(await look_at(stage.context(), crashed=known))
            assert plan.is_repairable
            assert plan.remedy == "the next mount finishes it; or pdfs check --repair"
            assert (session.kind, session.path) == ("session", *crashed)
            assert "a session of anna on ws1 has the stage, and has not been heard" in session.what
        nursery.cancel_scope.cancel()


async def test_an_older_root_that_was_put_back_goes_by_its_users_word() -> None:
    async with trio.open_nursery() as nursery:
        stage = await published(nursery)
        DAMAGES["an older root was put back"].inject(stage)
        assert "remove root.json, then pdfs check --repair" in (await stage.check())[0].remedy
        assert await stage.repair_all() == 0
        stage.remove(stage.world.keys.root)
        assert await stage.repair_all()
        assert {path: await stage.read(path) for path in FILES} == FILES
        nursery.cancel_scope.cancel()


@pytest.mark.figure(name="K1")
@EVERY_DAMAGE
async def test_every_damage_is_found_and_a_repair_loses_no_intact_file_and_a_second_does_nothing(
    name: str, seed: int, is_full: bool, reached: Reached
) -> None:
    damage, stores = DAMAGES[name], (AWS, R2, POOR)
    chosen = (seed + list(DAMAGES).index(name)) % len(stores)
    for traits in stores if is_full else stores[chosen : chosen + 1]:
        async with trio.open_nursery() as nursery:
            stage = await harmed(nursery, damage, traits)
            await check_found(stage, damage)
            await check_repaired(stage, damage)
            nursery.cancel_scope.cancel()
    reached(1, "kinds of damage")


async def check_found(stage: Stage, damage: Damage) -> None:
    history = len(stage.world.store.history)
    found = await stage.check()
    assert is_named(damage, found), found
    is_whole = all(each.level is not Level.DAMAGE for each in found)
    assert is_whole == (damage.level is not Level.DAMAGE)
    assert len(stage.world.store.history) == history, "a check changes nothing"


async def check_repaired(stage: Stage, damage: Damage) -> None:
    await stage.repair_all()
    found = await stage.check()
    stays = not damage.is_repairable or damage.kind == "lost"
    assert is_named(damage, found) == stays, found
    if damage.is_repairable:
        await check_files(stage, damage, found)
    history, uploads = len(stage.world.store.history), dict(stage.world.store._uploads)
    assert await stage.repair_all() == 0
    assert len(stage.world.store.history) == history
    assert stage.world.store._uploads == uploads


async def check_files(stage: Stage, damage: Damage, found: list[Finding]) -> None:
    """Every file is as it was, to PDFS and to other tools, or named as lost, or theirs."""
    for path, data in files_after(damage).items():
        if path in damage.lost:
            assert stage.entry(path).lost, "its name stays"
            assert any(each.path == path and each.kind == "lost" for each in found)
            with pytest.raises(ContentLost):
                await stage.read(path)
        elif not (damage.is_taken_in and path.endswith("b.dxf")):
            assert await stage.read(path) == data, path
            key = stage.world.keys.plain(path)
            assert path == HIDDEN or stage.world.store.objects[key].body == data
    assert stage.entry(BIG).content is not None


async def test_a_plan_made_anew_expects_what_the_lost_one_did_also_after_a_set_aside() -> None:
    site, path = Site(), Path("f.dwg")
    anna = await sit_down(site, site.context())
    anna.editor.write(path, b"first")
    await anna.publish()
    await anna.catch_up()
    anna.editor.write(path, b"second")
    await anna.publish()
    plan = anna.root.root.plan
    assert plan is not None
    anna.ctx.aside.give(PublishId(plan), [path])
    assert (await anna.catch_up()).aside == (path,)
    anna.editor.write(path, b"third")
    await anna.publish()
    root = anna.root.root
    assert root.plan is not None
    lost = await read_plan(anna.ctx, root.plan)
    await site.store.delete(site.keys.plan(root.plan), condition=None)
    anna.ctx.plans.clear()
    await remake_plan(anna.ctx, root)
    made = await read_plan(anna.ctx, root.plan)
    assert (made.puts, made.deletes) == (lost.puts, lost.deletes)
    assert made.puts[0].expect == site.store.objects[site.keys.plain(path)].etag


async def test_a_plan_is_made_anew_only_by_who_still_has_the_stage() -> None:
    site = Site()
    anna = await sit_down(site, site.context())
    anna.editor.write(Path("f.dwg"), b"first")
    await anna.publish()
    root = anna.root.root
    assert root.plan is not None
    await site.store.delete(site.keys.plan(root.plan), condition=None)
    anna.ctx.plans.clear()
    bert = site.context("bert")
    await start(bert, claimant_of(bert, take_over=True))
    with pytest.raises(LockLost):
        await remake_plan(anna.ctx, root)
    assert site.keys.plan(root.plan) not in site.store.objects
