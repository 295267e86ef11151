"""Apply: what is done stays done, what is refused holds up nothing else."""

from dataclasses import replace

import pytest
import trio

from pdfs.core.content import EMPTY, Content, ETag, Packed, content_of
from pdfs.core.ids import Fence, Path, PublishId, object_name
from pdfs.core.plan import Delete, Plan, Put
from pdfs.core.progress import Phase
from pdfs.core.settle import Deleted, Done, Moved, SourceLost, Stays
from pdfs.errors import LockLost, StoreRefused, StoreUnavailable
from pdfs.stage.apply import apply
from pdfs.stage.context import StageContext
from pdfs.stage.start import start
from pdfs.store.faulty import Fate, Request
from pdfs.store.memory import ALL_TRAITS
from pdfs.store.step import Step
from tests.core.test_plan import put
from tests.stage.contexts import SIZES, Site, claimant_of

PUBLISH = PublishId("000000000001-p")
PATHS = [Path(f"f{number}") for number in range(2 * SIZES.parallel + 1)]


def plan_for(ctx: StageContext, *puts: Put, deletes: tuple[Delete, ...] = ()) -> Plan:
    owner = ctx.owner
    return Plan(
        publish=PUBLISH,
        session=owner.session,
        run=owner.run,
        user=owner.user,
        machine=owner.machine,
        time=0.0,
        puts=puts,
        deletes=deletes,
    )


def empty_puts() -> tuple[Put, ...]:
    return tuple(replace(put(path), content=EMPTY) for path in PATHS)


async def home_of(site: Site, data: bytes) -> Content:
    """A content with a home in a contents object."""
    name = object_name(Fence(1), site.new_id())
    await site.store.put(site.keys.content(name), data, condition=None)
    return content_of(data, smallest_part=SIZES.part).with_packed(Packed(name, 0))


class Weather:
    """What becomes of requests; `seen` are those of the plain objects."""

    def __init__(self) -> None:
        self.bad: dict[str, Fate] = {}
        self.seen: list[Request] = []

    def fate_of(self, request: Request) -> Fate:
        name = request.key.rpartition("/")[2]
        if name in PATHS and request.is_write:
            self.seen.append(request)
        return self.bad.get(name, Fate.FINE)


async def test_a_step_that_is_refused_holds_up_no_other_and_is_all_that_is_tried_again() -> None:
    site, weather = Site(), Weather()
    async with trio.open_nursery() as late:
        ctx = site.context(store=site.behind(late, weather.fate_of))
        started = await start(ctx, claimant_of(ctx))
        plan = plan_for(ctx, *empty_puts())
        weather.bad = {"f0": Fate.REFUSED}
        with pytest.raises(StoreRefused):
            await apply(ctx, started.root, plan)
        there = {key.rpartition("/")[2] for key in site.store.objects}
        assert there >= set(PATHS) - {"f0"}
        assert "f0" not in there
        weather.bad, weather.seen = {}, []
        outcomes = await apply(ctx, started.root, plan)
        assert all(isinstance(outcomes[path], Done) for path in PATHS)
        assert [request.key for request in weather.seen] == [site.keys.plain(Path("f0"))]


async def test_a_bucket_that_is_away_is_not_asked_for_every_step() -> None:
    site, weather = Site(), Weather()
    async with trio.open_nursery() as late:
        ctx = site.context(store=site.behind(late, weather.fate_of))
        started = await start(ctx, claimant_of(ctx))
        weather.bad = dict.fromkeys(PATHS, Fate.REQUEST_LOST)
        with pytest.raises(StoreUnavailable):
            await apply(ctx, started.root, plan_for(ctx, *empty_puts()))
        assert len({request.key for request in weather.seen}) == SIZES.parallel


async def test_what_another_tool_does_after_a_step_was_done_is_left_alone() -> None:
    site, weather = Site(), Weather()
    async with trio.open_nursery() as late:
        ctx = site.context(store=site.behind(late, weather.fate_of))
        old = await site.store.put(site.keys.plain(Path("gone")), b"old", condition=None)
        started = await start(ctx, claimant_of(ctx))
        plan = plan_for(
            ctx, *empty_puts(), deletes=(Delete(path=Path("gone"), expect=ETag(old.etag)),)
        )
        weather.bad = {"f0": Fate.REFUSED}
        with pytest.raises(StoreRefused):
            await apply(ctx, started.root, plan)
        assert site.keys.plain(Path("gone")) in site.store.objects, "deletes come after all puts"
        await site.store.put(site.keys.plain(Path("f1")), b"theirs", condition=None)
        weather.bad = {}
        outcomes = await apply(ctx, started.root, plan)
        assert isinstance(outcomes[Path("f1")], Done)
        assert isinstance(outcomes[Path("gone")], Deleted)
        assert site.store.objects[site.keys.plain(Path("f1"))].body == b"theirs"


@pytest.mark.parametrize("refusals", [1, 2])
async def test_one_refusal_is_not_believed_where_what_is_expected_is_there(refusals: int) -> None:
    site = Site()
    left = dict.fromkeys(("old", "gone"), refusals)

    def fate_of(request: Request) -> Fate:
        name = request.key.rpartition("/")[2]
        if not request.is_write or not left.get(name):
            return Fate.FINE
        left[name] -= 1
        return Fate.UNMET

    async with trio.open_nursery() as late:
        ctx = site.context(store=site.behind(late, fate_of))
        there = {
            name: await site.store.put(site.keys.plain(Path(name)), b"old", condition=None)
            for name in left
        }
        started = await start(ctx, claimant_of(ctx))
        replacing = replace(put("old"), content=EMPTY, expect=ETag(there["old"].etag))
        deleting = Delete(path=Path("gone"), expect=ETag(there["gone"].etag))
        plan = plan_for(ctx, replacing, deletes=(deleting,))
        outcomes = await apply(ctx, started.root, plan)
    kinds = [type(outcomes[Path(name)]) for name in left]
    assert kinds == ([Done, Deleted] if refusals == 1 else [Moved, Stays])


@pytest.mark.parametrize("mtime", ["1800000000.000000000", None], ids=["later", "as old"])
async def test_an_edit_by_a_tool_that_keeps_our_metadata_is_not_taken_for_ours(
    mtime: str | None,
) -> None:
    """As s3fs does it; between the death of a publisher and the machine that finishes his plan."""
    path, key = Path("f0"), Site().keys.plain(Path("f0"))
    site = Site()
    anna = site.context()
    started = await start(anna, claimant_of(anna))
    steps = replace(put(path), content=await home_of(site, b"drawn by anna"))
    await apply(anna, started.root, plan_for(anna, steps))
    metadata = dict(site.store.objects[key].metadata)
    edited = b"drawn by hand" if mtime else b"by a tool that keeps the time, too"
    metadata |= {"mtime": mtime} if mtime else {}
    await site.store.put(key, edited, condition=None, metadata=metadata)
    bert = site.context("bert")
    taken = await start(bert, claimant_of(bert, take_over=True))
    outcome = (await apply(bert, taken.root, plan_for(anna, steps)))[path]
    assert site.store.objects[key].body == edited
    assert isinstance(outcome, Moved)
    assert outcome.theirs is not None
    assert site.store.objects[site.keys.plain(outcome.path)].body == b"drawn by anna"


async def test_a_copy_of_another_object_of_the_publish_is_not_taken_for_ours() -> None:
    """Tools that copy or rename on the server take the metadata with them."""
    site = Site()
    anna = site.context()
    started = await start(anna, claimant_of(anna))
    steps = [
        replace(
            put(Path(name)), content=await home_of(site, name.encode()), conflict=Path(f"{name}-2")
        )
        for name in ("f0", "f1")
    ]
    await apply(anna, started.root, plan_for(anna, *steps))
    first, second = (site.store.objects[site.keys.plain(Path(name))] for name in ("f0", "f1"))
    await site.store.put(
        site.keys.plain(Path("f1")), first.body, condition=None, metadata=first.metadata
    )
    bert = site.context("bert")
    taken = await start(bert, claimant_of(bert, take_over=True))
    outcomes = await apply(bert, taken.root, plan_for(anna, *steps))
    assert isinstance(outcomes[Path("f0")], Done)
    assert isinstance(outcomes[Path("f1")], Moved)
    assert site.store.objects[site.keys.plain(Path("f1"))].body == first.body
    assert site.store.objects[site.keys.plain(Path("f1-2"))].body == second.body


async def test_a_source_that_was_lost_is_looked_for_again() -> None:
    site = Site()
    ctx = site.context()
    started = await start(ctx, claimant_of(ctx))
    plan = plan_for(ctx, *empty_puts())
    ctx.applied[PUBLISH] = {Path("f0"): SourceLost()}
    assert isinstance((await apply(ctx, started.root, plan))[Path("f0")], Done)


async def test_nothing_is_kept_of_another_plan() -> None:
    site = Site()
    ctx = site.context()
    started = await start(ctx, claimant_of(ctx))
    ctx.applied[PublishId("000000000001-q")] = {path: Deleted() for path in PATHS}
    outcomes = await apply(ctx, started.root, plan_for(ctx, *empty_puts()))
    assert all(isinstance(outcomes[path], Done) for path in PATHS)
    assert list(ctx.applied) == [PUBLISH]


async def test_who_finds_a_publish_that_another_began_says_that_it_waits() -> None:
    site = Site()
    ctx = site.context()
    started = await start(ctx, claimant_of(ctx))
    plan = replace(plan_for(ctx, *empty_puts()), run=site.context("bert").owner.run)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(apply, ctx, started.root, plan)
        await trio.sleep(site.timing.foreign_plan_wait / 2)
        waiting = ctx.uploads.progress
    assert waiting is not None
    assert (waiting.phase, waiting.files, waiting.of_files) == (Phase.WAIT, 0, len(PATHS))
    done = ctx.uploads.progress
    assert done is not None
    assert (done.phase, done.files) == (Phase.PUBLISH, len(PATHS))


@pytest.mark.parametrize("conditional", [True, False])
async def test_whoever_lost_the_stage_stops_before_the_next_batch(conditional: bool) -> None:
    site = Site(traits=replace(ALL_TRAITS, conditional_delete=conditional))
    ctx = site.context()
    started = await start(ctx, claimant_of(ctx))
    bert = site.context("bert")
    await start(bert, claimant_of(bert, take_over=True))
    with pytest.raises(LockLost, match="taken over by bert on ws7, while its plain objects"):
        await apply(ctx, started.root, plan_for(ctx, *empty_puts()))
    assert not any(site.keys.plain(path) in site.store.objects for path in PATHS)


async def test_a_delete_that_is_cancelled_without_an_answer_holds_up_the_next_try_alone() -> None:
    """It arrives after twenty seconds, and would hit what is put in its place by then."""
    site = Site(traits=replace(ALL_TRAITS, conditional_delete=False))
    key = site.keys.plain(Path("gone"))
    late_ones = [Fate.LATE]

    def fate_of(request: Request) -> Fate:
        return late_ones.pop() if late_ones and request.step is Step.APPLY_DELETE else Fate.FINE

    async with trio.open_nursery() as late:
        ctx = site.context(store=site.behind(late, fate_of, lateness=20.0))
        old = await site.store.put(key, b"old", condition=None)
        started = await start(ctx, claimant_of(ctx))
        plan = plan_for(ctx, deletes=(Delete(path=Path("gone"), expect=ETag(old.etag)),))
        begun = trio.current_time()
        with trio.move_on_after(1.0):
            await apply(ctx, started.root, plan)
        assert trio.current_time() - begun == 1.0, "an end that was asked for waits"
        assert not late_ones
        outcomes = await apply(ctx, started.root, plan)
        assert isinstance(outcomes[Path("gone")], Deleted)
        await site.store.put(key, b"new", condition=None)
        await trio.sleep(100.0)
        assert site.store.objects[key].body == b"new"


async def test_a_delete_that_is_never_answered_is_trouble_though_looks_are_answered() -> None:
    site = Site(traits=replace(ALL_TRAITS, conditional_delete=False))
    key = site.keys.plain(Path("gone"))

    def fate_of(request: Request) -> Fate:
        return Fate.REQUEST_LOST if request.step is Step.APPLY_DELETE else Fate.FINE

    async with trio.open_nursery() as late:
        ctx = site.context(store=site.behind(late, fate_of))
        old = await site.store.put(key, b"old", condition=None)
        started = await start(ctx, claimant_of(ctx))
        plan = plan_for(ctx, deletes=(Delete(path=Path("gone"), expect=ETag(old.etag)),))
        begun = trio.current_time()
        with pytest.raises(StoreUnavailable):
            await apply(ctx, started.root, plan)
        assert trio.current_time() - begun >= site.timing.delete_valid
    assert Path("gone") in ctx.aside.failed


# --- where `a` beside `a/b` is taken, and a/b is in no listing any more ------------------------

HIDING = replace(ALL_TRAITS, nested_keys=False, hides_nested=True)


def listed(site: Site) -> set[str]:
    return {site.keys.path_of(key) for key in site.store._keys_below(site.keys.plain_prefix, "")}


@pytest.mark.parametrize(
    ("theirs", "ours"), [("plan", "plan/north.dxf"), ("plan/north.dxf", "plan"), ("a", "a/b/c/d")]
)
async def test_a_new_object_hides_no_other_and_is_not_hidden_itself(theirs: str, ours: str) -> None:
    site = Site(traits=HIDING)
    ctx = site.context()
    started = await start(ctx, claimant_of(ctx))
    await site.store.put(site.keys.plain(Path(theirs)), b"theirs", condition=None)
    puts = [replace(put(path), content=EMPTY) for path in (ours, "beside.dxf")]
    outcomes = await apply(ctx, started.root, plan_for(ctx, *puts))
    moved = outcomes[Path(ours)]
    assert isinstance(moved, Moved)
    assert moved.path == Path("aside")
    assert listed(site) == {theirs, "aside", "beside.dxf"}


async def test_an_object_that_took_the_place_of_a_directory_of_another_tool_hides_nothing() -> None:
    """The object that ours was to replace went, and others came below its name."""
    site = Site(traits=HIDING)
    ctx = site.context()
    started = await start(ctx, claimant_of(ctx))
    key = site.keys.plain(Path("plan"))
    old = await site.store.put(key, b"old", condition=None)
    await site.store.delete(key, condition=None)
    await site.store.put(site.keys.plain(Path("plan/north.dxf")), b"theirs", condition=None)
    ours = replace(put("plan"), content=EMPTY, expect=old.etag)
    outcomes = await apply(ctx, started.root, plan_for(ctx, ours))
    assert isinstance(outcomes[Path("plan")], Moved)
    assert listed(site) == {"plan/north.dxf", "aside"}


async def test_who_makes_room_for_a_new_object_himself_can_put_it_there() -> None:
    site = Site(traits=HIDING)
    ctx = site.context()
    started = await start(ctx, claimant_of(ctx))
    old = await site.store.put(site.keys.plain(Path("plan")), b"ours", condition=None)
    new = replace(put("plan/north.dxf"), content=EMPTY)
    plan = plan_for(ctx, new, deletes=(Delete(path=Path("plan"), expect=ETag(old.etag)),))
    outcomes = await apply(ctx, started.root, plan)
    assert isinstance(outcomes[Path("plan/north.dxf")], Done)
    assert listed(site) == {"plan/north.dxf"}


async def test_many_new_objects_in_one_directory_take_two_looks() -> None:
    looks: list[Request] = []

    def fate_of(request: Request) -> Fate:
        looks.extend([request] if request.step is Step.APPLY_JUDGE else [])
        return Fate.FINE

    site = Site(traits=HIDING)
    async with trio.open_nursery() as late:
        ctx = replace(
            site.context(store=site.behind(late, fate_of)), sizes=replace(SIZES, parallel=1)
        )
        started = await start(ctx, claimant_of(ctx))
        puts = [replace(put(f"plan/{number}"), content=EMPTY) for number in range(50)]
        await apply(ctx, started.root, plan_for(ctx, *puts))
    assert sorted(look.operation for look in looks) == ["head", "list directories"]
