"""The end of a session that is given up: the root forgets it, and nobody else's lock is touched."""

from pdfs.core.lease import LockState, Unpublished
from pdfs.stage.context import StageContext
from pdfs.stage.end import end_session, give_back
from pdfs.stage.lock import read_lock
from pdfs.stage.root import read_root
from pdfs.stage.start import start
from tests.stage.contexts import Site, claimant_of

WORK = Unpublished(files=1, bytes=2)


async def died(site: Site) -> StageContext:
    """A session of anna's that died with the stage; the process that gives it up."""
    ctx = site.context("anna")
    await start(ctx, claimant_of(ctx))
    return site.context("anna", session=ctx.owner.session)


async def taken_over(site: Site) -> StageContext:
    other = site.context("berta")
    await start(other, claimant_of(other, take_over=True))
    return other


async def given_up(ctx: StageContext) -> bool:
    """Give the session up; whether the root has forgotten it."""
    await give_back(ctx, await read_root(ctx))
    after = await read_root(ctx)
    return after is None or after.root.entry(ctx.owner.session) is None


async def test_a_session_that_has_the_lock_gives_it_back() -> None:
    site = Site()
    ctx = await died(site)
    assert await given_up(ctx)
    assert await read_lock(ctx) is None


async def test_a_session_whose_stage_is_free_again_is_forgotten_too() -> None:
    """Else every mount would say for ever that its work may wait."""
    site = Site()
    ctx = await died(site)
    other = await taken_over(site)
    started = await start(other, claimant_of(other))
    await end_session(other, started.root)
    await started.lock.release(Unpublished())
    assert await given_up(ctx)
    assert await read_lock(ctx) is None


async def test_a_stage_that_another_has_stays_his() -> None:
    site = Site()
    ctx = await died(site)
    await taken_over(site)
    before = dict(site.store.objects)
    assert not await given_up(ctx)
    assert dict(site.store.objects) == before


async def test_a_marker_that_tells_of_another_s_work_stays() -> None:
    site = Site()
    ctx = await died(site)
    other = await taken_over(site)
    started = await start(other, claimant_of(other))
    await started.lock.release(WORK)
    before = dict(site.store.objects)
    assert not await given_up(ctx)
    assert dict(site.store.objects) == before
    seen = await read_lock(ctx)
    assert seen is not None
    assert seen.lock is not None
    assert (seen.lock.state, seen.lock.pending) == (LockState.RELEASED, WORK)


async def test_a_session_that_the_root_does_not_know_changes_nothing() -> None:
    site = Site()
    assert await given_up(site.context())
    assert not site.store.objects
