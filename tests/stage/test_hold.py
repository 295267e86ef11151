"""A hold while it ends: what renews the lock and what releases it do not undo each other."""

from collections.abc import Callable

import pytest
import trio
import trio.testing

from pdfs.core import lease
from pdfs.core.ids import Fence
from pdfs.core.lease import Lock, Unpublished
from pdfs.core.notes import LockTaken, Note, Retried
from pdfs.errors import LockLost, StoreRefused
from pdfs.stage.context import StageContext
from pdfs.stage.hold import Hold
from pdfs.stage.start import start
from pdfs.store.faulty import Fate, Request
from pdfs.store.step import Step
from tests.stage.contexts import Site, claimant_of

WAITING = Unpublished(files=1, bytes=2)


def ignored(_: object) -> None:
    """Nobody listens."""


async def taken(
    ctx: StageContext, pending: Unpublished, note: Callable[[Note], None] = ignored
) -> Hold:
    hold = Hold(ctx, unpublished=lambda: pending, on_start=ignored, note=note)
    await hold.take(claimant_of(ctx), None)
    return hold


def stored(site: Site) -> Lock | None:
    found = site.store.objects.get(site.keys.lock)
    return None if found is None else lease.decode(site.keys.lock, found.body)


@pytest.mark.parametrize("pending", [Unpublished(), WAITING], ids=["marker goes", "marker stays"])
async def test_a_lock_that_was_released_is_never_renewed(pending: Unpublished) -> None:
    site = Site()
    hold = await taken(site.context(), pending)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(hold.keep)
        assert await hold.leave()
        released = stored(site)
        await trio.sleep(5 * site.timing.renewal)
        nursery.cancel_scope.cancel()
    assert stored(site) == released
    assert released is None or released.expires < site.now()
    assert (released is None) == (not pending)
    assert hold.trouble is None


@pytest.mark.parametrize("operation", ["put", "delete"])
async def test_no_renewal_comes_between_the_steps_of_a_release(operation: str) -> None:
    site = Site()
    begun = trio.Event()

    def fate_of(request: Request) -> Fate:
        if request.operation == operation:
            begun.set()
        return Fate.FINE

    async with trio.open_nursery() as late:
        hold = await taken(site.context(store=site.behind(late, fate_of)), Unpublished())
        begun = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(hold.leave)
            await begun.wait()
            await hold.renew()
    assert stored(site) is None


async def test_a_lost_stage_is_not_renewed_when_the_next_renewal_is_due() -> None:
    site = Site()
    hold = await taken(site.context(), WAITING)
    before = stored(site)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(hold.keep)
        await trio.testing.wait_all_tasks_blocked()
        hold.lose(LockLost("somebody else has published", remedy=""))
    assert stored(site) == before


async def test_who_waits_for_his_next_try_has_it_at_once_when_something_has_changed() -> None:
    hold = await taken(Site().context(), WAITING)
    tries: list[float] = []

    async def attempt() -> None:
        tries.append(trio.current_time())
        if len(tries) == 1:
            raise StoreRefused("not this one")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(hold.insist, attempt)
        await trio.lowlevel.checkpoint()
        while hold.trouble is None:
            await trio.lowlevel.checkpoint()
        hold.hurry()
    assert len(tries) == 2
    assert tries[0] == tries[1]


async def test_what_changes_during_a_try_spares_the_wait_before_the_next() -> None:
    hold = await taken(Site().context(), WAITING)
    tries: list[float] = []

    async def attempt() -> None:
        tries.append(trio.current_time())
        if len(tries) == 1:
            hold.hurry()
            raise StoreRefused("not this one")

    await hold.insist(attempt)
    assert len(tries) == 2
    assert tries[0] == tries[1]


@pytest.mark.parametrize("is_in_doubt", [False, True], ids=["refused", "without an answer"])
async def test_only_a_write_to_the_root_without_an_answer_makes_the_next_try_a_start(
    is_in_doubt: bool,
) -> None:
    site = Site()
    notes: list[Note] = []
    tries: list[Fence] = []

    def fate_of(request: Request) -> Fate:
        is_lost = is_in_doubt and request.step is Step.END_ROOT and len(tries) == 1
        return Fate.ANSWER_LOST if is_lost else Fate.FINE

    async def attempt() -> None:
        tries.append(hold.fence)
        await hold.end()
        if len(tries) == 1:
            raise StoreRefused("not this one")

    async with trio.open_nursery() as late:
        ctx = site.context(store=site.behind(late, fate_of))
        hold = await taken(ctx, WAITING, notes.append)
        await hold.insist_on_root(attempt)
        late.cancel_scope.cancel()
    assert tries == ([1, 2] if is_in_doubt else [1, 1])
    assert sum(isinstance(note, LockTaken) for note in notes) == len(set(tries))


async def test_a_cancelled_write_to_the_root_makes_the_next_try_a_start() -> None:
    site = Site()
    with trio.CancelScope() as scope:

        def fate_of(request: Request) -> Fate:
            if request.step is Step.END_ROOT and hold.fence == 1:
                scope.cancel()
                return Fate.LATE
            return Fate.FINE

        async with trio.open_nursery() as late:
            with trio.CancelScope(shield=True) as shield:
                hold = await taken(site.context(store=site.behind(late, fate_of)), WAITING)
                shield.shield = False
                await hold.insist_on_root(hold.end)
    assert scope.cancelled_caught
    await hold.insist_on_root(hold.end)
    assert hold.fence == 2


async def test_a_session_that_was_dead_at_the_start_and_lives_by_now_keeps_what_it_took() -> None:
    site = Site()
    ctx, other = site.context(), site.context(machine="ws7")
    hold = Hold(ctx, unpublished=Unpublished, on_start=ignored, note=ignored)
    await hold.take(claimant_of(ctx, crashed={other.owner.session}), None)
    await start(other, claimant_of(other, take_over=True))
    taken_over = stored(site)
    ctx.root_writes.begun += 1  # one whose answer nobody heard
    with pytest.raises(LockLost):
        await hold.insist_on_root(hold.end)
    assert stored(site) == taken_over


async def test_tries_that_fail_are_told_ever_more_rarely() -> None:
    notes: list[Note] = []
    hold = await taken(Site().context(), WAITING, notes.append)
    tries = 0

    async def attempt() -> None:
        nonlocal tries
        tries += 1
        if tries <= 20:
            raise StoreRefused(f"not this one, {tries}" if tries > 10 else "not this one")

    await hold.insist(attempt)
    told = [note for note in notes if isinstance(note, Retried)]
    assert [note.tries for note in told] == [2, 4, 8, 16]
    assert told[-1].what == "not this one, 16"
