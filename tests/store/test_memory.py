"""What the twin in memory does beyond the contract: what simulations rest on."""

import pytest
import trio

from pdfs.core.content import ETag
from pdfs.errors import KeyClash, PreconditionFailed, StoreRefused
from pdfs.store.memory import ALL_TRAITS, MemoryStore
from pdfs.store.objects import IfAbsent, IfMatch, Traits

WRONG = IfMatch(ETag("0" * 32))
FLAT = Traits(
    conditional_complete=False,
    conditional_delete=False,
    conditional_part_copy=False,
    nested_keys=False,
)


class Clock:
    """The store's time, moved by hand."""

    def __init__(self, time: float = 1000.75) -> None:
        self.time = time

    def __call__(self) -> float:
        return self.time


async def test_history_has_every_version_with_its_exact_time() -> None:
    clock = Clock()
    store = MemoryStore(now=clock)
    await store.put("a", b"1", condition=None, metadata={"m": "1"})
    clock.time = 1001.5
    await store.put("a", b"2", condition=None)
    await store.put("b", b"3", condition=None)
    await store.delete("a", condition=None)
    await store.delete("a", condition=None)
    bodies = [(time, key, stored and stored.body) for time, key, stored in store.history]
    assert bodies == [
        (1000.75, "a", b"1"),
        (1001.5, "a", b"2"),
        (1001.5, "b", b"3"),
        (1001.5, "a", None),
    ]
    first = store.history[0].stored
    assert first is not None
    assert first.metadata == {"m": "1"}


async def test_objects_shows_what_is_there_now() -> None:
    store = MemoryStore(now=Clock())
    view = store.objects
    await store.put("a", b"1", condition=None)
    assert view["a"].body == b"1"
    await store.delete("a", condition=None)
    assert not view


async def test_a_refused_request_leaves_no_trace() -> None:
    store = MemoryStore(now=Clock())
    with pytest.raises(PreconditionFailed):
        await store.put("a", b"1", condition=WRONG)
    assert not store.objects
    assert not store.history


async def test_times_are_told_in_whole_units_as_real_stores_do() -> None:
    clock = Clock(1000.75)
    store = MemoryStore(now=clock)
    assert (await store.put("a", b"", condition=None)).date == 1000.0
    clock.time = 1003.25
    info = await store.head("a")
    assert (info.last_modified, info.date) == (1000.0, 1003.0)
    fine = MemoryStore(now=clock, resolution=0)
    assert (await fine.put("a", b"", condition=None)).date == 1003.25


async def test_conditions_that_are_not_promised_are_ignored() -> None:
    store = MemoryStore(now=Clock(), traits=FLAT)
    await store.put("a", b"1", condition=None)
    upload = await store.create_upload("b")
    part = await store.copy_part(
        "b", upload, 1, source="a", span=(0, 1), if_match=ETag("not this one")
    )
    await store.complete_upload("b", upload, [part], condition=WRONG)
    await store.delete("a", condition=WRONG)
    assert set(store.objects) == {"b"}


async def test_put_conditions_are_never_ignored() -> None:
    store = MemoryStore(now=Clock(), traits=FLAT)
    await store.put("a", b"1", condition=IfAbsent())
    with pytest.raises(PreconditionFailed):
        await store.put("a", b"2", condition=IfAbsent())


@pytest.mark.parametrize("taken", ["a", "a/b/c"])
async def test_parents_and_children_clash_where_keys_do_not_nest(taken: str) -> None:
    store = MemoryStore(now=Clock(), traits=FLAT)
    await store.put(taken, b"", condition=None)
    await store.put("a-b", b"", condition=None)
    await store.put("a0", b"", condition=None)
    with pytest.raises(KeyClash):
        await store.put("a/b", b"", condition=None)
    assert set(store.objects) == {taken, "a-b", "a0"}


async def test_a_signed_delete_has_no_effect_after_its_validity() -> None:
    clock = Clock()
    store = MemoryStore(now=clock)
    await store.put("a", b"", condition=None)
    signed = store.sign_delete("a", valid_for=30)
    clock.time += 30.1
    with pytest.raises(StoreRefused):
        await signed.send()
    assert "a" in store.objects


async def test_a_listing_goes_on_after_its_last_key_whatever_changes_meanwhile() -> None:
    store = MemoryStore(now=Clock(), page_size=2)
    for key in "bdfh":
        await store.put(key, b"", condition=None)
    seen = []
    async for page in store.list(""):
        seen += [row.key for row in page]
        if seen == ["b", "d"]:
            await store.delete("d", condition=None)
            await store.delete("f", condition=None)
            await store.put("a", b"", condition=None)
            await store.put("g", b"", condition=None)
    assert seen == ["b", "d", "g", "h"]


async def test_every_call_lets_other_tasks_run_once_before_it_acts() -> None:
    store = MemoryStore(now=Clock(), traits=ALL_TRAITS)
    order: list[str] = []

    async def put(name: str) -> None:
        order.append(f"{name} asks")
        await store.put(name, b"", condition=None)
        order.append(f"{name} is told")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(put, "x")
        nursery.start_soon(put, "y")
    assert {order[0], order[1]} == {"x asks", "y asks"}
