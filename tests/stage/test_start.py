"""Start: one winner, whoever comes; the others are told who has it (figures L1, L4, L6)."""

import random
from dataclasses import replace

import pytest
import trio

from pdfs.core import lease
from pdfs.core import root as core_root
from pdfs.core.ids import Fence, ObjectName
from pdfs.core.lease import Lock, LockState, Refusal, Right, Unpublished
from pdfs.core.moments import local_moment
from pdfs.errors import LockHeld, LockLost, LockUnreadable, ObjectDamaged, StoreUnavailable
from pdfs.stage.context import StageContext
from pdfs.stage.end import end_session
from pdfs.stage.lock import new_lock, read_lock
from pdfs.stage.root import read_held_root, read_root, swap_root
from pdfs.stage.start import Started, start
from pdfs.store.faulty import Fate, Request
from pdfs.store.memory import ALL_TRAITS
from pdfs.store.step import Step
from tests.conftest import Reached
from tests.core.hostile import documents_that_are_none
from tests.core.test_lease import LOCK
from tests.lengths import Length
from tests.stage.contexts import Site, claimant_of

WORK = Unpublished(files=3, bytes=5120)
USERS = ["anna", "bert", "carl", "dora", "emil", "fred", "gina", "hans"]


async def begin(ctx: StageContext, *, take_over: bool = False) -> Started:
    return await start(ctx, claimant_of(ctx, take_over=take_over))


async def test_the_first_start_writes_lock_and_root_with_fence_1() -> None:
    site = Site()
    ctx = site.context()
    started = await begin(ctx)
    assert (started.fence, started.right, started.is_new) == (1, Right.FREE, True)
    assert (started.previous, started.entry) == (None, None)
    lock, root = await read_lock(ctx), await read_root(ctx)
    assert lock is not None
    assert root == started.root
    assert lock.lock == started.lock.lock
    assert (started.lock.lock.fence, started.lock.lock.state) == (1, LockState.ACTIVE)
    assert (root.root.fence, root.root.generation, root.root.tree) == (1, 0, None)
    assert root.is_held_by(ctx.owner, started.fence)
    entry = root.root.entry(ctx.owner.session)
    assert entry is not None
    assert (entry.user, entry.machine, entry.fences) == ("anna", "ws7", (1,))


async def test_a_start_after_a_release_raises_the_fence_and_carries_the_root_over() -> None:
    site = Site()
    first = await begin(site.context())
    tree = ObjectName("000000000001-7")
    root = await swap_root(
        site.context(), first.root, replace(first.root.root, generation=1, tree=tree)
    )
    await first.lock.release(Unpublished())
    second = await begin(site.context("bert"))
    assert (second.fence, second.right, second.is_new) == (2, Right.FREE, False)
    assert (second.root.root.generation, second.root.root.tree) == (1, tree)
    assert second.root.root.id != root.root.id
    assert len(second.root.root.sessions) == 2, "who has not ended is still there"


async def test_a_second_user_is_refused_and_told_who_has_it_since_when() -> None:
    site = Site()
    anna = await begin(site.context())
    await trio.sleep(125)
    before = dict(site.store.objects)
    with pytest.raises(LockHeld) as raised:
        await begin(site.context("bert", machine="ws9"))
    assert raised.value.refusal is Refusal.HELD
    assert raised.value.lock == anna.lock.lock
    assert raised.value.age == 125
    words = str(raised.value)
    for word in (
        "'planning'",
        "anna on ws7",
        local_moment(anna.lock.lock.since),
        "2 min",
        "--take",
    ):
        assert word in words
    assert dict(site.store.objects) == before, "who is refused changes nothing"


async def test_a_refusal_tells_what_is_unpublished_there() -> None:
    site = Site()
    anna = await begin(site.context())
    await anna.lock.renew(state=LockState.DRAINING, pending=Unpublished(files=14, bytes=99))
    with pytest.raises(LockHeld, match=r"\(draining\).*14 files \(99 bytes\) unpublished there"):
        await begin(site.context("bert"))
    await anna.lock.renew(pending=Unpublished(files=1, bytes=1))
    with pytest.raises(LockHeld, match=r"1 file \(1 byte\) unpublished there"):
        await begin(site.context("bert"))


async def test_work_that_waits_elsewhere_is_asked_about_and_stays_in_the_root() -> None:
    site = Site()
    anna = await begin(site.context())
    await anna.lock.release(Unpublished(files=3, bytes=5120))
    bert = site.context("bert")
    with pytest.raises(LockHeld) as raised:
        await begin(bert)
    assert raised.value.refusal is Refusal.WORK_WAITS
    assert "is free, but anna left 3 files (5.0 KiB) unpublished on ws7" in raised.value.what
    started = await start(bert, replace(claimant_of(bert), agreed=True))
    entry = started.root.root.entry(anna.lock.lock.session)
    assert entry is not None
    assert entry.unpublished == Unpublished(files=3, bytes=5120)


async def test_work_that_waits_elsewhere_is_not_forgotten_by_who_has_to_write_the_root_again() -> (
    None
):
    """The lock is his own by then; what it said before counts."""
    site = Site()
    ctx = site.context()
    anna = await begin(ctx)
    await anna.lock.release(WORK)
    hits: list[Request] = []

    async def write_late() -> None:
        await swap_root(ctx, anna.root, anna.root.root)

    async with trio.open_nursery() as late:

        def fate_of(request: Request) -> Fate:
            if request.step is Step.START_WRITE_ROOT and not hits:
                hits.append(request)
                late.start_soon(write_late)
            return Fate.FINE

        bert = site.context("bert", store=site.behind(late, fate_of))
        started = await start(bert, replace(claimant_of(bert), agreed=True))
    assert hits
    assert started.previous is not None
    assert started.previous.session == anna.lock.lock.session
    assert (started.right, started.previous.pending) == (Right.RELEASED, WORK)
    entry = started.root.root.entry(anna.lock.lock.session)
    assert entry is not None
    assert entry.unpublished == WORK


async def test_a_lock_that_a_late_write_made_again_after_its_session_ended_is_nobodys() -> None:
    site = Site()
    echoed: list[Request] = []

    def fate_of(request: Request) -> Fate:
        if request.step is not Step.START_TAKE_LOCK or echoed:
            return Fate.FINE
        echoed.append(request)
        return Fate.ECHOED

    async with trio.open_nursery() as late:
        ctx = site.context(store=site.behind(late, fate_of))
        anna = await begin(ctx)
        await end_session(ctx, anna.root)
        await anna.lock.release(Unpublished())
    there = await read_lock(ctx)
    assert there is not None
    assert there.lock is not None
    assert there.lock.state is LockState.ACTIVE, "the late write has made it"
    bert = await begin(site.context("bert"))
    assert (bert.right, bert.fence) == (Right.ENDED, 2)


async def test_a_lock_without_a_root_yet_is_somebodys() -> None:
    site = Site()
    await begin(site.context())
    await site.store.delete(site.keys.root, condition=None)
    with pytest.raises(LockHeld):
        await begin(site.context("bert"))


async def test_a_lock_whose_owner_has_not_written_the_root_yet_is_his() -> None:
    site = Site()
    anna = await begin(site.context())
    await end_session(site.context(), anna.root)
    await anna.lock.release(Unpublished())
    bert = site.context("bert")
    root = await read_root(bert)
    assert root is not None
    body = lease.encode(new_lock(bert, Fence(root.root.fence + 1)))
    await site.store.put(site.keys.lock, body, condition=None)
    with pytest.raises(LockHeld):
        await begin(site.context("carl"))


async def test_an_expired_lock_is_taken_and_the_earlier_owner_can_not_commit() -> None:
    site = Site()
    anna_ctx = site.context()
    anna = await begin(anna_ctx)
    await trio.sleep(site.timing.expiry + 1)
    bert = await begin(site.context("bert"))
    assert (bert.right, bert.fence, bert.previous) == (Right.EXPIRED, 2, anna.lock.lock)
    with pytest.raises(LockLost, match="taken over by bert on ws7"):
        await swap_root(anna_ctx, anna.root, anna.root.root)
    with pytest.raises(LockLost, match="taken over by bert on ws7"):
        await read_held_root(anna_ctx, anna.fence)
    with pytest.raises(LockLost, match="bert on ws7"):
        await anna.lock.renew()


async def test_who_lost_the_stage_is_told_what_the_root_still_says_of_it() -> None:
    site = Site()
    ctx, bert_ctx = site.context(), site.context("bert")
    anna = await begin(ctx)
    bert = await begin(bert_ctx, take_over=True)
    await end_session(bert_ctx, bert.root)
    with pytest.raises(LockLost, match="somebody else took the stage meanwhile, or broke its lock"):
        await swap_root(ctx, anna.root, anna.root.root)
    again = site.context(session=ctx.owner.session)
    await begin(again, take_over=True)
    with pytest.raises(LockLost, match="another process has gone on with this session"):
        await swap_root(ctx, anna.root, anna.root.root)
    await site.store.put(site.keys.root, b"{}", condition=None)
    with pytest.raises(ObjectDamaged, match=r"root.json.*is not one.*check"):
        await swap_root(ctx, anna.root, anna.root.root)


@pytest.mark.figure(name="L3")
@pytest.mark.parametrize("clock", [0.1, 1.0, 30.0, 300.0, 86_400.0, 3.2e8])
@pytest.mark.parametrize("sign", [-1, 1])
async def test_wrong_clocks_give_nobody_a_lock_too_early_or_too_late(
    clock: float, sign: int
) -> None:
    """L3: age is measured by the store's clock alone."""
    site = Site()
    await begin(site.context(clock=sign * clock))
    await trio.sleep(site.timing.expiry)
    with pytest.raises(LockHeld):
        await begin(site.context("bert", clock=-sign * clock))
    await trio.sleep(2)
    assert (await begin(site.context("bert", clock=-sign * clock))).right is Right.EXPIRED


async def test_a_crashed_session_takes_its_own_lock_again_at_once() -> None:
    site = Site()
    first = site.context()
    crashed = await begin(first)
    await crashed.lock.renew(state=LockState.DRAINING, pending=Unpublished(files=1, bytes=2))
    again = site.context(session=first.owner.session)
    started = await start(again, claimant_of(again, crashed=frozenset({first.owner.session})))
    assert (started.right, started.fence) == (Right.SAME_MACHINE, 2)
    lock = started.lock.lock
    assert (lock.since, lock.state, lock.pending) == (
        crashed.lock.lock.since,
        LockState.DRAINING,
        Unpublished(files=1, bytes=2),
    )
    assert started.entry is not None
    assert started.entry.fences == (1,)
    entry = started.root.root.entry(first.owner.session)
    assert entry is not None
    assert entry.fences == (1, 2)


async def test_starting_again_from_ones_own_lock_is_always_right() -> None:
    site = Site()
    ctx = site.context()
    fences = [(await begin(ctx)).fence for _ in range(3)]
    assert fences == [1, 2, 3]
    assert len((await begin(ctx)).root.root.sessions) == 1


# --- L4 -------------------------------------------------------------------------------------------


BAD = documents_that_are_none(lease.encode(LOCK), is_packed=False)


@pytest.mark.figure(name="L4")
@pytest.mark.parametrize("body", BAD.values(), ids=BAD)
async def test_a_lock_that_can_not_be_read_is_never_free(body: bytes) -> None:
    site = Site()
    await site.store.put(site.keys.lock, body, condition=None)
    await trio.sleep(10 * site.timing.expiry)
    with pytest.raises(LockUnreadable, match="--take-over"):
        await begin(site.context())
    assert site.store.objects[site.keys.lock].body == body
    assert site.keys.root not in site.store.objects


async def test_a_torn_lock_is_taken_by_a_take_over_alone() -> None:
    site = Site()
    anna = await begin(site.context())
    await site.store.put(site.keys.lock, b'{"torn', condition=None)
    bert = await begin(site.context("bert"), take_over=True)
    assert (bert.right, bert.fence, bert.previous) == (Right.TAKEN_OVER, 2, None)
    with pytest.raises(LockLost):
        await swap_root(site.context(), anna.root, anna.root.root)


async def test_a_damaged_root_is_reported_before_the_lock_is_taken() -> None:
    site = Site()
    await site.store.put(site.keys.root, b"{}", condition=None)
    with pytest.raises(ObjectDamaged, match=r"root\.json"):
        await begin(site.context())
    assert site.keys.lock not in site.store.objects


# --- L1 -------------------------------------------------------------------------------------------


async def contend(
    site: Site, users: list[str], *, take_over: bool = False, faults: float = 0.0
) -> tuple[dict[str, Started], dict[str, LockHeld]]:
    """Everybody starts at nearly the same time; who won, and what the others were told."""
    winners: dict[str, Started] = {}
    refused: dict[str, LockHeld] = {}
    chance = random.Random(site.seed)

    def fate_of(request: Request) -> Fate:
        if not request.is_write or chance.random() >= faults:
            return Fate.FINE
        return chance.choice([Fate.ANSWER_LOST, Fate.DOUBLED, Fate.REQUEST_LOST, Fate.UNAVAILABLE])

    async def one(user: str, late: trio.Nursery) -> None:
        ctx = site.context(user, store=site.behind(late, fate_of))
        await trio.sleep(site.chance.choice([0, 0, 0.02, 0.1]))
        while user not in winners and user not in refused:
            try:
                winners[user] = await begin(ctx, take_over=take_over)
            except LockHeld as error:
                refused[user] = error
            except StoreUnavailable:
                continue

    async with trio.open_nursery() as late, trio.open_nursery() as nursery:
        for user in users:
            nursery.start_soon(one, user, late)
    return winners, refused


@pytest.mark.figure(name="L1")
async def test_of_two_to_eight_contenders_exactly_one_wins(
    seed: int, length: Length, reached: Reached
) -> None:
    rounds = length.pick(sample=200, full=2_000, long=10_000)
    reached(rounds, "rounds")
    for number in range(rounds):
        site = Site(seed=seed + number)
        users = USERS[: 2 + number % 7]
        began = trio.current_time()
        winners, refused = await contend(site, users)
        assert trio.current_time() - began <= 5
        ((winner, started),) = winners.items()
        assert refused.keys() == set(users) - {winner}
        for error in refused.values():
            assert isinstance(error.lock, Lock)
            assert error.lock.id == started.lock.lock.id
            assert f"{winner} on ws7 since" in str(error)
        seen = await read_root(site.context())
        assert seen == started.root


@pytest.mark.parametrize("is_released", [True, False])
async def test_exactly_one_wins_what_another_left_behind(seed: int, is_released: bool) -> None:
    for number in range(50):
        site = Site(seed=seed + number, traits=replace(ALL_TRAITS, conditional_delete=False))
        left = await begin(site.context("zoe"))
        if is_released:
            await left.lock.release(Unpublished())
        else:
            await trio.sleep(site.timing.expiry + 1)
        winners, refused = await contend(site, USERS[: 2 + number % 7])
        ((winner, started),) = winners.items()
        assert started.fence == 2
        assert len(refused) == 1 + number % 7
        assert all(f"{winner} on ws7 since" in str(error) for error in refused.values())


@pytest.mark.figure(name="L1")
async def test_exactly_one_wins_on_a_bad_network_too(
    seed: int, length: Length, reached: Reached
) -> None:
    rounds = length.pick(sample=100, full=1_000, long=10_000)
    reached(rounds, "rounds on a bad network")
    for number in range(rounds):
        site = Site(seed=seed + number)
        users = USERS[: 2 + number % 7]
        winners, refused = await contend(site, users, faults=0.3)
        assert len(winners) == 1, number
        ((winner, started),) = winners.items()
        assert len(refused) == len(users) - 1
        assert all(f"{winner} on ws7 since" in str(error) for error in refused.values())
        await swap_root(site.context(), started.root, started.root.root)


@pytest.mark.figure(name="L6")
async def test_of_many_that_take_over_only_the_last_one_can_commit(seed: int) -> None:
    for number in range(60):
        site = Site(seed=seed + number)
        winners, refused = await contend(site, USERS[: 2 + number % 7], take_over=True)
        assert not refused
        able = []
        for user, started in winners.items():
            try:
                await swap_root(site.context(), started.root, started.root.root)
                able.append(user)
            except LockLost:
                pass
        assert len(able) == 1
        assert winners[able[0]].fence == max(started.fence for started in winners.values())


# --- lost answers ---------------------------------------------------------------------------------


@pytest.mark.parametrize("fate", [Fate.ANSWER_LOST, Fate.REQUEST_LOST, Fate.DOUBLED, Fate.LATE])
@pytest.mark.parametrize("at", [Step.START_TAKE_LOCK, Step.START_WRITE_ROOT])
async def test_a_lost_answer_is_no_lost_start(fate: Fate, at: Step) -> None:
    site = Site()
    hits: list[Request] = []

    def fate_of(request: Request) -> Fate:
        if request.step is not at or hits:
            return Fate.FINE
        hits.append(request)
        return fate

    async with trio.open_nursery() as late:
        ctx = site.context(store=site.behind(late, fate_of))
        started = await begin(ctx)
        assert hits
        assert (started.fence, started.right) == (1, Right.FREE)
        late.cancel_scope.cancel()


@pytest.mark.parametrize("at", [Step.START_TAKE_LOCK, Step.START_WRITE_ROOT])
async def test_a_start_that_gave_up_is_right_to_be_called_again(at: Step) -> None:
    site = Site()
    silent = True

    def fate_of(request: Request) -> Fate:
        return Fate.ANSWER_LOST if silent and request.step is at else Fate.FINE

    async with trio.open_nursery() as late:
        ctx = site.context(store=site.behind(late, fate_of))
        with pytest.raises(StoreUnavailable):
            await begin(ctx)
        silent = False
        started = await begin(ctx)
        assert started.right is Right.OWN
        assert started.root.is_held_by(ctx.owner, started.fence)
    assert [session.session for session in started.root.root.sessions] == [ctx.owner.session]


async def test_no_two_writes_of_lock_or_root_have_equal_bytes() -> None:
    site = Site()
    ctx = site.context()
    for _ in range(5):
        started = await begin(ctx)
        await started.lock.renew()
    bodies = [change.stored.body for change in site.store.history if change.stored is not None]
    assert len(set(bodies)) == len(bodies) == 15
    roots = [core_root.decode("k", b) for b in bodies if b'"generation"' in b]
    assert len({root.id for root in roots}) == 5
    assert {root.session for root in roots} == {ctx.owner.session}
