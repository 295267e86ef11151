"""The lock while it is ours: renewed, released, taken away, vanished, torn (figures S2, L4, L6)."""

import random
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial

import pytest
import trio

from pdfs.core import lease
from pdfs.core.lease import LockState, Unpublished
from pdfs.core.timing import Timing
from pdfs.errors import LockError, LockLost, StoreUnavailable
from pdfs.stage.lock import HeldLock, read_lock
from pdfs.stage.root import swap_root
from pdfs.stage.start import start
from pdfs.store.faulty import WRITE_FATES, Fate, Request
from pdfs.store.memory import ALL_TRAITS
from tests.stage.contexts import EPOCH, FateOf, Site, claimant_of

KEPT = replace(ALL_TRAITS, conditional_delete=False)


async def taken(site: Site, user: str = "anna") -> HeldLock:
    ctx = site.context(user)
    return (await start(ctx, claimant_of(ctx))).lock


def stored(site: Site) -> lease.Lock:
    return lease.decode(site.keys.lock, site.store.objects[site.keys.lock].body)


async def test_a_renewal_says_what_the_owner_does_and_keeps_the_rest() -> None:
    site = Site()
    lock = await taken(site)
    before = lock.lock
    await trio.sleep(60)
    await lock.renew(state=LockState.DRAINING, pending=Unpublished(files=2, bytes=9))
    assert stored(site) == lock.lock
    assert lock.lock == replace(
        before,
        id=lock.lock.id,
        renewed=EPOCH + 60,
        expires=EPOCH + 60 + site.timing.expiry,
        state=LockState.DRAINING,
        pending=Unpublished(files=2, bytes=9),
    )
    await lock.renew()
    assert (lock.lock.state, lock.lock.pending.files) == (LockState.DRAINING, 2)


async def test_a_released_lock_goes_where_the_store_can_delete_it_safely() -> None:
    site = Site()
    await (await taken(site)).release(Unpublished())
    assert site.keys.lock not in site.store.objects


@pytest.mark.parametrize("waits", [True, False])
async def test_a_marker_stays_that_tells_whose_work_waits_or_can_not_be_deleted_safely(
    waits: bool,
) -> None:
    site = Site(traits=ALL_TRAITS if waits else KEPT)
    pending = Unpublished(files=1, bytes=2) if waits else Unpublished()
    await (await taken(site)).release(pending)
    marker = stored(site)
    assert (marker.state, marker.pending) == (LockState.RELEASED, pending)
    assert marker.expires < site.now()


async def test_a_marker_that_another_took_meanwhile_is_not_deleted() -> None:
    site = Site()
    bert = site.context("bert")

    async with trio.open_nursery() as late:

        def fate_of(request: Request) -> Fate:
            return Fate.LATE if request.operation == "delete" else Fate.FINE

        ctx = site.context(store=site.behind(late, fate_of))
        anna = (await start(ctx, claimant_of(ctx))).lock
        await anna.release(Unpublished())
        await start(bert, claimant_of(bert))
    assert stored(site).user == "bert"


async def test_a_lock_that_was_taken_over_is_lost_and_the_new_owner_named() -> None:
    site = Site()
    lock = await taken(site)
    bert = site.context("bert", machine="ws9")
    await start(bert, claimant_of(bert, take_over=True))
    before = stored(site)
    for call in (lock.renew, partial(lock.release, Unpublished())):
        with pytest.raises(LockLost, match="bert on ws9"):
            await call()
    assert stored(site) == before


@pytest.mark.parametrize("is_broken", [True, False])
async def test_a_lock_that_its_taker_has_released_says_whether_it_was_only_broken(
    is_broken: bool,
) -> None:
    site = Site(traits=KEPT)
    lock = await taken(site)
    bert = site.context("bert", machine="ws9")
    former = lock.lock if is_broken else None
    taker = await start(bert, claimant_of(bert, take_over=True))
    await taker.lock.release(Unpublished(), former=former)
    with pytest.raises(LockLost) as caught:
        await lock.renew()
    words = "was broken, and released" if is_broken else "by bert on ws9, and released since"
    assert words in caught.value.what


async def test_our_own_session_in_another_process_is_another_owner() -> None:
    site = Site()
    ctx = site.context()
    lock = (await start(ctx, claimant_of(ctx))).lock
    again = site.context(session=ctx.owner.session)
    await start(again, claimant_of(again, take_over=True))
    with pytest.raises(LockLost):
        await lock.renew()


# --- vanished and torn ----------------------------------------------------------------------------


async def test_a_lock_that_vanished_is_made_again_by_the_session_that_the_root_names() -> None:
    site = Site()
    lock = await taken(site)
    await site.store.delete(site.keys.lock, condition=None)
    await lock.renew()
    assert stored(site) == lock.lock


async def test_a_lock_that_vanished_can_be_released() -> None:
    site = Site(traits=KEPT)
    lock = await taken(site)
    await site.store.delete(site.keys.lock, condition=None)
    await lock.release(Unpublished())
    assert stored(site).state is LockState.RELEASED


@pytest.mark.parametrize("is_gone", [True, False])
async def test_a_lock_that_vanished_is_lost_where_the_root_names_another(is_gone: bool) -> None:
    site = Site()
    lock = await taken(site)
    bert = site.context("bert")
    other = await start(bert, claimant_of(bert, take_over=True))
    await site.store.delete(site.keys.lock, condition=None)
    if is_gone:
        await site.store.delete(site.keys.root, condition=None)
    with pytest.raises(LockLost):
        await lock.renew()
    assert site.keys.lock not in site.store.objects
    if not is_gone:
        await other.lock.renew()
        assert stored(site).user == "bert"


async def test_a_lock_that_vanishes_twice_while_another_takes_it_is_the_others() -> None:
    site = Site()
    lock = await taken(site)
    await site.store.delete(site.keys.lock, condition=None)
    bert = site.context("bert")
    await start(bert, claimant_of(bert))
    with pytest.raises(LockLost, match="bert"):
        await lock.renew()
    assert stored(site).user == "bert"


@pytest.mark.parametrize("body", [b"", b"{", b"null", b'{"schema":2}', b"\xff\xfe", bytes(5000)])
async def test_a_torn_lock_is_reported_and_left_as_it_is(body: bytes) -> None:
    site = Site()
    lock = await taken(site)
    await site.store.put(site.keys.lock, body, condition=None)
    for call in (lock.renew, partial(lock.release, Unpublished())):
        with pytest.raises(LockError):
            await call()
    assert site.store.objects[site.keys.lock].body == body
    seen = await read_lock(site.context())
    assert seen is not None
    assert seen.lock is None
    assert seen.fault is not None


async def test_the_age_of_a_lock_is_that_of_its_object() -> None:
    site = Site()
    await taken(site)
    await trio.sleep(1000)
    seen = await read_lock(site.context(clock=-5e8))
    assert seen is not None
    assert seen.age == 1000


# --- S2 -------------------------------------------------------------------------------------------


def weather(seed: int, faults: float, *, but: frozenset[Fate] = frozenset()) -> FateOf:
    chance = random.Random(seed)
    possible = sorted(WRITE_FATES - {Fate.CRASH_BEFORE, Fate.CRASH_AFTER} - but)

    def fate_of(request: Request) -> Fate:
        if request.is_write and chance.random() < faults:
            return chance.choice(possible)
        return Fate.FINE

    return fate_of


async def test_nobody_loses_the_lock_to_himself(seed: int, is_full: bool) -> None:
    """1,000 seeded tries: renewals and a release with a third of the answers in doubt."""
    for number in range(5_000 if is_full else 1_000):
        site = Site(seed=seed + number)
        async with trio.open_nursery() as late:
            await _live(site, late, weather(seed + number, 0.33, but=frozenset({Fate.REFUSED})))
            late.cancel_scope.cancel()


async def _live(site: Site, late: trio.Nursery, bad: FateOf) -> None:
    """Take the lock on a good network; renew it three times and release it on a bad one."""
    is_bad = False
    ctx = site.context(
        store=site.behind(late, lambda request: bad(request) if is_bad else Fate.FINE)
    )
    lock = (await start(ctx, claimant_of(ctx))).lock
    is_bad = True
    for files in range(3):
        await _insist(partial(lock.renew, pending=Unpublished(files=files)))
        assert stored(site).pending.files == files
        await trio.sleep(30)
    await _insist(partial(lock.release, Unpublished()))
    there = site.store.objects.get(site.keys.lock)
    assert there is None or stored(site).state is LockState.RELEASED


async def _insist(call: Callable[[], Awaitable[None]]) -> None:
    while True:
        try:
            await call()
        except StoreUnavailable:
            continue
        return


async def test_what_became_of_a_silent_renewal_is_found_out_by_the_next(seed: int) -> None:
    site = Site(seed=seed)
    silent = False

    def fate_of(request: Request) -> Fate:
        return Fate.ANSWER_LOST if silent and request.is_write else Fate.FINE

    async with trio.open_nursery() as late:
        ctx = site.context(store=site.behind(late, fate_of))
        held = await start(ctx, claimant_of(ctx))
        silent = True
        with pytest.raises(StoreUnavailable):
            await held.lock.renew(pending=Unpublished(files=1))
        silent = False
        assert stored(site).pending.files == 1
        await held.lock.renew(pending=Unpublished(files=2))
        assert stored(site).pending.files == 2
        await swap_root(ctx, held.root, held.root.root)


async def test_renewals_side_by_side_do_not_disturb_each_other() -> None:
    site = Site()
    lock = await taken(site)
    async with trio.open_nursery() as nursery:
        for files in range(10):
            nursery.start_soon(_renew_with, lock, files)
    assert stored(site) == lock.lock


async def _renew_with(lock: HeldLock, files: int) -> None:
    await lock.renew(pending=Unpublished(files=files))


async def test_an_owner_who_renews_every_minute_is_never_taken_for_gone() -> None:
    site = Site(timing=replace(Timing(), expiry=130.0, same_user_elsewhere=65.0))
    lock = await taken(site)
    for _ in range(100):
        await trio.sleep(site.timing.renewal)
        seen = await read_lock(site.context())
        assert seen is not None
        assert seen.age < site.timing.same_user_elsewhere < site.timing.expiry
        await lock.renew()
