"""Many who take, renew, break and give back one lock: their history is linearisable (L6)."""

import json
import random
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, cast

import pytest
import trio

from pdfs.core.ids import RunId
from pdfs.core.lease import Claimant, Lock, Unpublished
from pdfs.core.timing import Timing
from pdfs.errors import LockHeld, LockLost
from pdfs.stage.context import StageContext
from pdfs.stage.end import end_session
from pdfs.stage.lock import HeldLock
from pdfs.stage.root import SeenRoot, swap_root
from pdfs.stage.start import Started, start
from pdfs.store.faulty import Fate, Request
from pdfs.store.objects import Traits
from tests.conftest import Reached
from tests.lengths import Length
from tests.simulation.world import AWS, R2
from tests.stage.contexts import Site
from tests.stage.linear import Event, stuck_at
from tests.stage.lock_history import (
    Act,
    Held,
    Recorder,
    Register,
    gives_back,
    is_gone,
    is_of,
    takes,
)

USERS = ["anna", "bert", "carl", "dora", "emil", "fred", "gina", "hans"]
PATIENT = Timing(answer=10.0, patience=3000.0, backoff=0.1, backoff_limit=2.0)
"""Nobody gives up: whatever is asked is answered in the end."""
DOUBTFUL = [Fate.ANSWER_LOST, Fate.REQUEST_LOST, Fate.UNAVAILABLE, Fate.DOUBLED]


@dataclass(slots=True)
class Client:
    """One person at the stage, who does this and that until the history is long enough."""

    site: Site
    recorder: Recorder
    chance: random.Random
    events: int

    async def live(self, ctx: StageContext) -> None:
        while self.recorder.count < self.events:
            await self._pause()
            run = RunId(self.site.new_id())
            ctx = replace(ctx, owner=replace(ctx.owner, run=run))
            by_force = self.chance.random() < 0.2
            began = self.recorder.begin()
            try:
                started = await start(ctx, _claimant(ctx, by_force=by_force))
            except LockHeld as error:
                lock = cast("Lock", error.lock)
                self.recorder.was_refused(began, run, Held(lock.run, lock.fence))
                continue
            mine = Held(run, started.fence)
            self.recorder.took(began, mine, by_force=by_force)
            await self._own(ctx, started, mine, breaks=by_force and self.chance.random() < 0.5)

    async def _pause(self) -> None:
        await trio.sleep(self.chance.uniform(0, 2))

    async def _own(self, ctx: StageContext, started: Started, mine: Held, *, breaks: bool) -> None:
        """Renew and commit for a while, then give back; `breaks` gives back at once.

        Who finds that it lost the stage tries all of it once more: the history shows what may be.
        """
        root = started.root
        for _ in range(0 if breaks else self.chance.randint(0, 6)):
            await self._pause()
            if self.chance.random() < 0.5:
                has_it = await self._renew(started.lock, mine)
            else:
                has_it, root = await self._commit(ctx, root, mine)
            if not has_it:
                await self._try_all(ctx, started.lock, root, mine)
                return
        await self._give_back(ctx, started.lock, root, mine)

    async def _renew(self, lock: HeldLock, mine: Held) -> bool:
        began = self.recorder.begin()
        try:
            await lock.renew()
        except LockLost:
            self.recorder.lost_lock(began, mine)
            return False
        self.recorder.renewed(began, mine)
        return True

    async def _commit(self, ctx: StageContext, seen: SeenRoot, mine: Held) -> tuple[bool, SeenRoot]:
        began = self.recorder.begin()
        try:
            now = await swap_root(ctx, seen, seen.root)
        except LockLost:
            self.recorder.lost_root(began, mine)
            return False, seen
        self.recorder.committed(began, mine)
        return True, now

    async def _try_all(self, ctx: StageContext, lock: HeldLock, root: SeenRoot, mine: Held) -> None:
        """Who took the lock may not have the root yet: then this commits."""
        await self._renew(lock, mine)
        await self._pause()
        _, root = await self._commit(ctx, root, mine)
        await self._give_back(ctx, lock, root, mine)

    async def _give_back(
        self, ctx: StageContext, lock: HeldLock, root: SeenRoot, mine: Held
    ) -> None:
        began = self.recorder.begin()
        try:
            await end_session(ctx, root)
        except LockLost:
            self.recorder.gave_back_in_vain(began, mine)
            return
        with suppress(LockLost):  # somebody took it already: by the root this session was over
            await lock.release(Unpublished())
        self.recorder.gave_back(began, mine)


def _claimant(ctx: StageContext, *, by_force: bool) -> Claimant:
    owner = ctx.owner
    return Claimant(
        user=owner.user, session=owner.session, run=owner.run, agreed=True, take_over=by_force
    )


async def record(seed: int, events: int, traits: Traits) -> Recorder:
    """A history of so many events by eight people, on a network that loses every tenth answer."""
    site = Site(seed=seed, timing=PATIENT, traits=traits)
    recorder, chance = Recorder(), random.Random(seed)

    def fate_of(request: Request) -> Fate:
        return chance.choice(DOUBTFUL) if request.is_write and chance.random() < 0.1 else Fate.FINE

    async with trio.open_nursery() as late, trio.open_nursery() as nursery:
        for user in USERS:
            client = Client(site, recorder, random.Random(f"{seed} {user}"), events)
            ctx = site.context(user, store=site.behind(late, fate_of))
            nursery.start_soon(client.live, ctx)
    recorder.stood_there(
        _owners(site, site.keys.lock), _owners(site, site.keys.root), _over(site, site.keys.root)
    )
    return recorder


def _owners(site: Site, key: str) -> list[Held]:
    """Who came to own that object, one after the other."""
    owners: list[Held | None] = [None]
    for version in _versions(site, key):
        owner = Held(version["run"], version["fence"]) if version else None
        if owner != owners[-1]:
            owners.append(owner)
    return [owner for owner in owners if owner]


def _over(site: Site, key: str) -> set[Held]:
    """Who wrote a root in which his own session is no more."""
    return {
        Held(root["run"], root["fence"])
        for root in _versions(site, key)
        if root["session"] not in [entry["session"] for entry in root["sessions"]]
    }


def _versions(site: Site, key: str) -> list[dict[str, Any]]:
    """All that the object ever was; empty where it was removed."""
    changes = [change.stored for change in site.store.history if change.key == key]
    return [json.loads(stored.body) if stored else {} for stored in changes]


@pytest.mark.figure(name="L6")
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("traits", [AWS, R2], ids=["aws", "r2"])
async def test_what_many_were_told_of_one_lock_fits_an_order_of_what_they_did(
    seed: int, length: Length, traits: Traits, reached: Reached
) -> None:
    events = length.pick(sample=400, full=10_000, long=100_000)
    recorder = await record(seed, events, traits)
    reached(recorder.count, "events in a history")
    reached(recorder.refused_to_former, "refusals of who had lost the stage")
    assert recorder.refused_to_former > events // 100
    assert not recorder.stuck_at(), f"no order fits; seed={seed}"


A, B = Held("a", 1), Held("b", 2)
FORCED = takes(B, by_force=True)


@pytest.mark.parametrize(
    ("is_possible", "told"),
    [
        (True, [(takes(A, by_force=False), 0, 1), (is_of(A), 2, 3), (FORCED, 4, 5)]),
        (True, [(takes(A, by_force=False), 0, 1), (FORCED, 2, 5), (is_of(A), 3, 4)]),
        (False, [(takes(A, by_force=False), 0, 1), (FORCED, 2, 3), (is_of(A), 4, 5)]),
        (False, [(takes(A, by_force=False), 0, 1), (is_gone(A), 2, 3), (FORCED, 4, 5)]),
        (False, [(takes(A, by_force=False), 0, 3), (takes(B, by_force=False), 1, 2)]),
        (False, [(takes(B, by_force=False), 0, 1), (takes(A, by_force=True), 2, 3)]),
        (True, [(takes(A, by_force=False), 0, 1), (gives_back(A), 2, 5), (is_of(A), 3, 4)]),
        (False, [(takes(A, by_force=False), 0, 1), (gives_back(A), 2, 3), (is_of(A), 4, 5)]),
        (
            False,
            [(takes(A, by_force=False), 0, 1), (FORCED, 2, 9), (is_of(B), 3, 4), (is_of(A), 5, 6)],
        ),
    ],
)
def test_a_history_is_told_from_one_that_can_not_be(
    is_possible: bool, told: list[tuple[Act, int, int]]
) -> None:
    history = [Event(f"{began}-{ended}", began, ended, act) for act, began, ended in told]
    assert bool(stuck_at(history, Register())) is not is_possible
