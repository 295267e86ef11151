"""A machine that was suspended: it looks at the lock before it uploads anything."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest
import trio

from pdfs.core.ids import Path
from pdfs.core.lease import Unpublished
from pdfs.errors import LockLost, StoreError
from pdfs.stage.hold import Hold
from pdfs.stage.start import start
from pdfs.stage.wake import Wake
from pdfs.store.faulty import Fate, Request
from pdfs.store.step import Step
from tests.stage.contexts import Site, claimant_of
from tests.stage.works import Person, sit_down

SENDING = {Step.STAGE_CONTENT, Step.COMMIT_TREE, Step.COMMIT_PLAN, Step.COMMIT_ROOT, Step.APPLY_PUT}
"""Steps that upload."""
FILES = {Path("model.dwg"): b"m" * 1000, Path("list.csv"): b"1;2;3", Path("plan.dxf"): b"p" * 300}


def ignored(_: object) -> None:
    """Nobody listens."""


@dataclass(slots=True)
class Laptop:
    """anna's, which sleeps now and then, and what it sends."""

    site: Site
    slept: float = 0.0
    sent: list[Step | None] = field(default_factory=list)
    on_request: Callable[[Request], Fate] = lambda _: Fate.FINE
    person: Person = field(init=False)
    hold: Hold = field(init=False)

    async def open(self, nursery: trio.Nursery) -> None:
        """She takes the stage and writes some files."""
        ctx = self.site.context(store=self.site.behind(nursery, self._fate_of))
        ctx = replace(ctx, wake=Wake(lambda: self.slept))
        self.person = await sit_down(self.site, ctx)
        self.hold = Hold(ctx, unpublished=Unpublished, on_start=ignored, note=ignored)
        await self.hold.take(claimant_of(ctx), None)
        self.person.root = self.hold.root
        self.person.work.adopt(self.hold.fence)
        for path, body in FILES.items():
            self.person.editor.write(path, body)

    def sleep(self) -> None:
        """Hours pass, and none of them by the clock that she waits by."""
        self.slept += 7200.0

    async def publish(self) -> None:
        with self.hold.sending():
            await self.person.publish()

    def _fate_of(self, request: Request) -> Fate:
        self.sent.append(request.step)
        return self.on_request(request)

    @property
    def uploads(self) -> int:
        return sum(step in SENDING for step in self.sent)


async def take_over(site: Site) -> None:
    other = site.context("bob", machine="ws8")
    await start(other, claimant_of(other, take_over=True))


async def test_who_wakes_up_and_has_lost_the_stage_hears_of_it_at_once() -> None:
    site = Site()
    laptop = Laptop(site)
    async with trio.open_nursery() as nursery:
        await laptop.open(nursery)
        await take_over(site)
        nursery.start_soon(laptop.hold.keep)
        await trio.sleep(1.0)
        laptop.sleep()
        await trio.sleep(2 * site.timing.wake)
        nursery.cancel_scope.cancel()
    assert laptop.hold.lost is not None
    assert "bob" in str(laptop.hold.lost)


async def test_who_wakes_up_and_has_lost_the_stage_uploads_nothing() -> None:
    site = Site()
    laptop = Laptop(site)
    async with trio.open_nursery() as nursery:
        await laptop.open(nursery)
        await take_over(site)
        laptop.sleep()
        laptop.sent.clear()
        with pytest.raises(LockLost, match="bob"):
            await laptop.publish()
        nursery.cancel_scope.cancel()
    assert not laptop.uploads
    assert laptop.hold.lost is not None


@pytest.mark.parametrize("at", sorted(SENDING - {Step.COMMIT_ROOT, Step.APPLY_PUT}))
async def test_who_sleeps_amid_a_publish_and_has_lost_the_stage_sends_no_more(at: Step) -> None:
    site = Site()
    laptop = Laptop(site)

    def fall_asleep(request: Request) -> Fate:
        if request.step is at:
            laptop.sleep()
            laptop.sent.clear()
            laptop.on_request = lambda _: Fate.FINE
            return Fate.REQUEST_LOST  # the connection does not outlive it
        return Fate.FINE

    async with trio.open_nursery() as nursery:
        await laptop.open(nursery)
        await take_over(site)
        laptop.on_request = fall_asleep
        with pytest.raises(LockLost, match="bob"):
            await laptop.publish()
        nursery.cancel_scope.cancel()
    assert not laptop.uploads


async def test_who_wakes_up_and_still_has_the_stage_looks_once_and_goes_on() -> None:
    site = Site()
    laptop = Laptop(site)
    async with trio.open_nursery() as nursery:
        await laptop.open(nursery)
        laptop.sleep()
        laptop.sent.clear()
        await laptop.publish()
        nursery.cancel_scope.cancel()
    assert laptop.sent[0] is Step.RENEW
    assert laptop.sent.count(Step.RENEW) == 1
    assert laptop.uploads
    assert laptop.person.root.root.generation == 1


async def test_nothing_is_uploaded_while_nobody_answers_the_look() -> None:
    site = Site()
    laptop = Laptop(site)

    def no_answer(request: Request) -> Fate:
        return Fate.REQUEST_LOST if request.step is Step.RENEW else Fate.FINE

    async with trio.open_nursery() as nursery:
        await laptop.open(nursery)
        laptop.sleep()
        laptop.sent.clear()
        laptop.on_request = no_answer
        with pytest.raises(StoreError):
            await laptop.publish()
        assert not laptop.uploads
        laptop.on_request = lambda _: Fate.FINE
        await laptop.publish()
        nursery.cancel_scope.cancel()
    assert laptop.person.root.root.generation == 1


async def test_a_lock_that_became_unreadable_in_the_night_keeps_nobody_from_publishing() -> None:
    site = Site()
    laptop = Laptop(site)
    async with trio.open_nursery() as nursery:
        await laptop.open(nursery)
        await site.store.put(site.keys.lock, b"torn", condition=None)
        laptop.sleep()
        await laptop.publish()
        nursery.cancel_scope.cancel()
    assert laptop.person.root.root.generation == 1
