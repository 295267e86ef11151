"""Compare-and-swap when answers get lost: one's own write is always recognised (figure S2)."""

import math
import random
from collections.abc import Mapping
from dataclasses import replace

import pytest
import trio

from pdfs.core.content import ETag
from pdfs.errors import ObjectNotFound, StoreRefused, StoreUnavailable
from pdfs.stage.swap import Lost, Won, read, swap
from pdfs.store.faulty import Fate, Request
from pdfs.store.memory import MemoryStore
from pdfs.store.objects import NO_METADATA, Condition, Fetched, IfAbsent, IfMatch, Stored
from tests.conftest import Reached
from tests.lengths import Length
from tests.stage.contexts import Site, fine

KEY = "Kraftwerk/planning.lock.json"

DOUBTFUL = [Fate.FINE, Fate.ANSWER_LOST, Fate.REQUEST_LOST, Fate.UNAVAILABLE, Fate.LATE]
DOUBTFUL += [Fate.DOUBLED, Fate.ECHOED, Fate.BUSY, Fate.CONTENDED, Fate.BROKEN]


async def test_a_write_whose_condition_holds_wins() -> None:
    site = Site()
    ctx = site.context()
    won = await swap(ctx, KEY, b"one", IfAbsent())
    assert isinstance(won, Won)
    assert won.etag == site.store.objects[KEY].etag
    assert isinstance(await swap(ctx, KEY, b"two", IfMatch(won.etag)), Won)
    assert site.store.objects[KEY].body == b"two"


@pytest.mark.parametrize("condition", [IfAbsent(), IfMatch(ETag("old"))])
async def test_a_write_whose_condition_fails_loses_and_is_told_what_is_there(
    condition: Condition,
) -> None:
    site = Site()
    await site.store.put(KEY, b"theirs", condition=None)
    outcome = await swap(site.context(), KEY, b"ours", condition)
    assert isinstance(outcome, Lost)
    assert outcome.found is not None
    assert outcome.found.body == b"theirs"
    assert site.store.objects[KEY].body == b"theirs"


async def test_a_write_in_place_of_what_is_gone_loses_to_nothing() -> None:
    site = Site()
    assert await swap(site.context(), KEY, b"ours", IfMatch(ETag("old"))) == Lost(None)
    assert await read(site.context(), KEY) is None


class Says404(MemoryStore):
    """Says 404, as some stores do, to a PUT with If-Match where no object is."""

    async def put(
        self,
        key: str,
        body: bytes,
        *,
        condition: Condition | None,
        content_type: str = "application/octet-stream",
        metadata: Mapping[str, str] = NO_METADATA,
    ) -> Stored:
        if isinstance(condition, IfMatch) and key not in self.objects:
            await trio.lowlevel.checkpoint()
            raise ObjectNotFound(key)
        return await super().put(
            key, body, condition=condition, content_type=content_type, metadata=metadata
        )


async def test_a_store_that_says_404_to_a_condition_says_no() -> None:
    site = Site()
    ctx = site.context(store=Says404(now=site.now))
    assert await swap(ctx, KEY, b"ours", IfMatch(ETag("old"))) == Lost(None)


class OneWriteASecond(MemoryStore):
    """Refuses, as R2 does, every write to a key within a second of another."""

    last = -math.inf
    refused = 0

    async def put(
        self,
        key: str,
        body: bytes,
        *,
        condition: Condition | None,
        content_type: str = "application/octet-stream",
        metadata: Mapping[str, str] = NO_METADATA,
    ) -> Stored:
        if trio.current_time() < self.last + 1:
            self.refused += 1
            await trio.lowlevel.checkpoint()
            raise StoreUnavailable("429", sent=False, retry_after=1.0)
        self.last = trio.current_time()
        return await super().put(
            key, body, condition=condition, content_type=content_type, metadata=metadata
        )


@pytest.mark.parametrize("is_first", [True, False])
async def test_of_many_that_are_told_to_wait_all_but_the_winner_hear_in_two_seconds_that_they_lost(
    is_first: bool,
) -> None:
    site = Site()
    store = OneWriteASecond(now=site.now)
    condition: Condition = IfAbsent()
    if not is_first:
        condition = IfMatch((await store.put(KEY, b"before", condition=None)).etag)
        await trio.sleep(1)
    outcomes: list[Won | Lost] = []

    async def attempt(number: int) -> None:
        ctx = site.context(f"user {number}", store=store)
        outcomes.append(await swap(ctx, KEY, b"%d" % number, condition))

    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        for number in range(8):
            nursery.start_soon(attempt, number)
    assert trio.current_time() - began <= 2
    assert store.refused == 7, "they wrote again"
    assert len([outcome for outcome in outcomes if isinstance(outcome, Won)]) == 1
    found = {each.found and each.found.body for each in outcomes if isinstance(each, Lost)}
    assert found == {store.objects[KEY].body}


@pytest.mark.parametrize("is_first", [True, False])
async def test_who_is_told_to_wait_and_finds_what_it_asks_for_writes_again(is_first: bool) -> None:
    site = Site()
    store = OneWriteASecond(now=site.now)
    condition: Condition = IfAbsent()
    if not is_first:
        condition = IfMatch((await store.put(KEY, b"before", condition=None)).etag)
    store.last = trio.current_time()
    outcome = await swap(site.context(store=store), KEY, b"ours", condition)
    assert (store.refused, outcome) == (1, Won(store.objects[KEY].etag))


@pytest.mark.parametrize("fate", [*DOUBTFUL, Fate.UNMET])
@pytest.mark.parametrize("is_first", [True, False])
async def test_ones_own_write_is_recognised_whatever_became_of_its_answer(
    fate: Fate, is_first: bool
) -> None:
    site = Site()
    fates = iter([fate])

    def fate_of(request: Request) -> Fate:
        return next(fates, Fate.FINE) if request.is_write else Fate.FINE

    async with trio.open_nursery() as nursery:
        ctx = site.context(store=site.behind(nursery, fate_of))
        condition: Condition = IfAbsent()
        if not is_first:
            stored = await site.store.put(KEY, b"before", condition=None)
            condition = IfMatch(stored.etag)
        outcome = await swap(ctx, KEY, b"ours", condition)
        assert outcome == Won(site.store.objects[KEY].etag)
        assert site.store.objects[KEY].body == b"ours"
        nursery.cancel_scope.cancel()


async def test_a_no_that_what_is_there_contradicts_is_believed_the_second_time() -> None:
    site = Site()
    before = await site.store.put(KEY, b"before", condition=None)

    def fate_of(request: Request) -> Fate:
        return Fate.UNMET if request.is_write else Fate.FINE

    async with trio.open_nursery() as nursery:
        ctx = site.context(store=site.behind(nursery, fate_of))
        outcome = await swap(ctx, KEY, b"ours", IfMatch(before.etag))
    assert isinstance(outcome, Lost)
    assert site.store.objects[KEY].body == b"before"


async def test_a_write_that_was_carried_out_and_then_replaced_by_another_has_lost() -> None:
    site = Site()
    asked: list[Request] = []

    async with trio.open_nursery() as nursery:

        def fate_of(request: Request) -> Fate:
            asked.append(request)
            return Fate.ANSWER_LOST if len(asked) == 1 else Fate.FINE

        async def other() -> None:
            await trio.sleep(5)
            await site.store.put(KEY, b"theirs", condition=None)

        nursery.start_soon(other)
        ctx = site.context(store=site.behind(nursery, fate_of))
        outcome = await swap(ctx, KEY, b"ours", IfAbsent())
    assert isinstance(outcome, Lost)
    assert outcome.found is not None
    assert outcome.found.body == b"theirs"


async def test_what_is_sent_again_are_the_same_bytes_under_the_same_condition() -> None:
    site = Site()
    async with trio.open_nursery() as nursery:
        fates = iter([Fate.REQUEST_LOST, Fate.UNAVAILABLE, Fate.ANSWER_LOST])
        ctx = site.context(store=site.behind(nursery, lambda request: next(fates, Fate.FINE)))
        await swap(ctx, KEY, b"ours", IfAbsent())
    assert [change.stored and change.stored.body for change in site.store.history] == [b"ours"]


async def test_a_store_that_stays_silent_is_given_up_within_the_stated_time() -> None:
    site = Site()
    async with trio.open_nursery() as nursery:
        ctx = site.context(store=site.behind(nursery, lambda request: Fate.REQUEST_LOST))
        began = trio.current_time()
        with pytest.raises(StoreUnavailable):
            await swap(ctx, KEY, b"ours", IfAbsent())
        assert trio.current_time() - began <= site.timing.patience + site.timing.answer


async def test_a_store_that_says_it_is_busy_is_asked_at_most_ten_times() -> None:
    site = Site()
    asked: list[Request] = []

    def fate_of(request: Request) -> Fate:
        asked.append(request)
        return Fate.UNAVAILABLE

    async with trio.open_nursery() as nursery:
        ctx = site.context(store=site.behind(nursery, fate_of))
        with pytest.raises(StoreUnavailable):
            await swap(ctx, KEY, b"ours", IfAbsent())
    assert 2 <= len(asked) <= 10


async def test_a_refusal_comes_out_at_once() -> None:
    site = Site()
    async with trio.open_nursery() as nursery:
        ctx = site.context(store=site.behind(nursery, lambda request: Fate.REFUSED))
        with pytest.raises(StoreRefused):
            await swap(ctx, KEY, b"ours", IfAbsent())
    assert site.store.history == []


@pytest.mark.figure(name="S2")
async def test_no_write_of_ours_is_ever_taken_for_anothers(
    seed: int, length: Length, reached: Reached
) -> None:
    """S2: a chain of swaps on a network where a third of all answers are in doubt."""
    site = Site(seed=seed)
    chance = random.Random(seed)
    swaps = length.pick(sample=1_000, full=5_000, long=50_000)
    reached(swaps, "swaps in doubt")

    def fate_of(request: Request) -> Fate:
        return chance.choice(DOUBTFUL) if chance.random() < 0.33 else Fate.FINE

    won = 0
    async with trio.open_nursery() as nursery:
        ctx = site.context(store=site.behind(nursery, fate_of))
        condition: Condition = IfAbsent()
        for number in range(swaps):
            body = b"%d" % number
            while True:
                try:
                    outcome = await swap(ctx, KEY, body, condition)
                except StoreUnavailable:
                    continue  # the same call is right
                break
            assert isinstance(outcome, Won), number
            assert site.store.objects[KEY].body == body
            condition = IfMatch(outcome.etag)
            won += 1
        nursery.cancel_scope.cancel()
    assert won == swaps
    assert [change.stored and change.stored.body for change in site.store.history] == [
        b"%d" % number for number in range(won)
    ]


async def test_of_three_that_swap_the_same_version_one_wins(seed: int) -> None:
    site = Site(seed=seed)
    etag = (await site.store.put(KEY, b"0", condition=None)).etag
    for number in range(50):
        winners = [o for o in await _race(site, etag, number) if isinstance(o, Won)]
        assert len(winners) == 1
        etag = winners[0].etag


async def _race(site: Site, etag: ETag, number: int) -> list[Won | Lost]:
    outcomes: list[Won | Lost] = []

    async def attempt(name: bytes) -> None:
        ctx = site.context(store=site.behind(late, fine))
        outcomes.append(await swap(ctx, KEY, b"%s %d" % (name, number), IfMatch(etag)))

    async with trio.open_nursery() as late, trio.open_nursery() as nursery:
        for name in (b"anna", b"bert", b"carl"):
            nursery.start_soon(attempt, name)
    return outcomes


class Cuts(MemoryStore):
    """Gives only a piece of an object, in the answers whose turn it is."""

    turns: frozenset[int] = frozenset()
    reads: int = 0

    async def get(
        self, key: str, *, span: tuple[int, int] | None = None, if_match: ETag | None = None
    ) -> Fetched:
        found = await super().get(key, span=span, if_match=if_match)
        self.reads += 1
        is_cut = self.reads in self.turns
        return replace(found, body=found.body[: 5 + self.reads]) if is_cut else found


@pytest.mark.parametrize("turns", [{1}, {1, 2, 3}])
async def test_a_piece_of_a_document_is_not_taken_for_the_whole(turns: set[int]) -> None:
    site = Site()
    store = Cuts(now=site.now)
    store.turns = frozenset(turns)
    body = b'{"schema": 1, "generation": 3}'
    await store.put(KEY, body, condition=None)
    found = await read(site.context(store=store), KEY)
    assert found is not None
    assert found.body == body


class OtherTags(MemoryStore):
    """Makes its ETags otherwise than by MD5."""

    async def get(
        self, key: str, *, span: tuple[int, int] | None = None, if_match: ETag | None = None
    ) -> Fetched:
        found = await super().get(key, span=span, if_match=if_match)
        return replace(found, info=replace(found.info, etag=ETag("0" * 32)))


async def test_what_is_no_document_is_believed_the_second_time() -> None:
    site = Site()
    store = OtherTags(now=site.now)
    await store.put(KEY, b'{"torn', condition=None)
    found = await read(site.context(store=store), KEY)
    assert found is not None
    assert found.body == b'{"torn'


async def test_what_never_arrives_whole_is_trouble_and_no_damage() -> None:
    site = Site()
    store = Cuts(now=site.now)
    store.turns = frozenset(range(1, 100))
    await store.put(KEY, b'{"schema": 1, "generation": 3, "more": "of it"}', condition=None)
    with pytest.raises(StoreUnavailable, match="undamaged"):
        await read(site.context(store=store), KEY)


async def test_a_read_that_is_refused_for_a_condition_which_it_has_not_is_asked_again() -> None:
    site = Site()
    await site.store.put(KEY, b"{}", condition=None)
    fates = [Fate.UNMET, Fate.UNMET]

    def fate_of(_: Request) -> Fate:
        return fates.pop() if fates else Fate.FINE

    async with trio.open_nursery() as late:
        found = await read(site.context(store=site.behind(late, fate_of)), KEY)
    assert found is not None
    assert found.body == b"{}"
    assert not fates
