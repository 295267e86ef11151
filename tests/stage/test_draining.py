"""Waiting for a stage that is unmounted, but still being published."""

from functools import partial

import pytest
import trio

from pdfs.core.lease import Lock, LockState, Unpublished
from pdfs.stage.context import StageContext
from pdfs.stage.draining import wait_while_draining
from pdfs.stage.lock import HeldLock
from pdfs.stage.start import start
from tests.stage.contexts import Site, claimant_of

LIMIT = 3600.0


async def draining(site: Site, user: str = "anna") -> HeldLock:
    """The lock of somebody who publishes two files."""
    ctx = site.context(user)
    lock = (await start(ctx, claimant_of(ctx))).lock
    await lock.renew(state=LockState.DRAINING, pending=Unpublished(files=2, bytes=20))
    return lock


async def waited(ctx: StageContext, limit: float = LIMIT) -> tuple[float, list[int]]:
    """For how long it waited, and how many files it was told of."""
    began, told = trio.current_time(), list[int]()

    def tell(lock: Lock, age: float) -> None:
        told.append(lock.pending.files)

    await wait_while_draining(ctx, claimant_of(ctx), limit, tell)
    return trio.current_time() - began, told


async def renew_and_release(lock: HeldLock) -> None:
    await trio.sleep(50)
    await lock.renew(pending=Unpublished(files=1, bytes=10))
    await trio.sleep(50)
    await lock.release(Unpublished())


@pytest.mark.parametrize("user", ["anna", "berta"])
async def test_a_draining_stage_is_waited_for_until_it_is_released_and_what_is_left_is_told(
    user: str,
) -> None:
    site = Site()
    lock = await draining(site)
    ctx = site.context(user, machine="ws8")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(renew_and_release, lock)
        seconds, told = await waited(ctx)
    assert 100 <= seconds <= 103
    assert told == [2, 1]
    assert (await start(ctx, claimant_of(ctx))).fence > lock.lock.fence


async def test_the_wait_has_a_bound() -> None:
    site = Site()
    lock = await draining(site)

    async def renew() -> None:
        while True:
            await trio.sleep(site.timing.renewal)
            await lock.renew()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(renew)
        for limit in (0.0, 1.0, 700.0):
            seconds, _ = await waited(site.context("berta"), limit)
            assert seconds == pytest.approx(limit)
        nursery.cancel_scope.cancel()


async def test_who_has_gone_silent_is_not_waited_for() -> None:
    site = Site()
    await draining(site)
    await trio.sleep(4 * site.timing.renewal)
    seconds, told = await waited(site.context("berta"))
    assert (told, seconds < 2 * site.timing.renewal) == ([2], True)


async def test_nobody_waits_for_a_stage_that_is_free_or_in_use_or_their_own() -> None:
    site = Site()
    berta = site.context("berta")
    assert await waited(berta) == (0, [])
    lock = await draining(site)
    await lock.renew(state=LockState.ACTIVE)
    assert await waited(berta) == (0, [])
    await lock.renew(state=LockState.DRAINING)
    take = partial(claimant_of, berta, take_over=True)
    await wait_while_draining(berta, take(), LIMIT, lambda lock, age: pytest.fail("no reason"))
    back = site.context("anna", session=lock.lock.session)
    claim = claimant_of(back, crashed={lock.lock.session})
    await wait_while_draining(back, claim, LIMIT, lambda lock, age: pytest.fail("its own"))
