"""What a session that is given up needs of the bucket comes into its journal first."""

from collections.abc import Awaitable, Callable

import pytest
import trio

from pdfs.core import snapshot
from pdfs.core.content import Content, Packed, content_of
from pdfs.core.ids import TOP, Fence, Inode, Path, SessionId, object_name
from pdfs.core.node import Node
from pdfs.core.record import Found, Link, SetAttributes, Write
from pdfs.core.tree import Tree, new_tree
from pdfs.errors import ContentLost, StoreError, StoreRefused, StoreUnavailable
from pdfs.local.ledger import Ledger
from pdfs.stage.complete import complete, lacking_ranges
from pdfs.stage.context import StageContext
from pdfs.stage.fetch import fetch_span
from tests.simulation.machine import SimulatedDisk, SimulatedJournal
from tests.stage.contexts import SIZES, Site

DATA = bytes(range(256)) * 4
NAME = object_name(Fence(1), "a" * 32)
CHANGED = bytes([*DATA[:300], *b"ours", *DATA[304:]])


def as_found(content: Content, name: str, ino: int) -> Found:
    return Found(
        parent=TOP,
        name=name,
        path=Path(name),
        ino=Inode(ino),
        mode=0o644,
        uid=0,
        gid=0,
        mtime=1,
        time=1,
        content=content,
    )


async def _at_once(call: Callable[[], None]) -> None:
    call()
    await trio.lowlevel.checkpoint()


def ledger_on(disk: SimulatedDisk, tree: Tree, ctx: StageContext) -> Ledger:
    async def fetch(content: Content, start: int, stop: int) -> bytes:
        return await fetch_span(ctx, content, start, stop)

    journal = SimulatedJournal(disk, lambda: False)
    return Ledger(tree, journal, fetch=fetch, run_blocking=_at_once)


async def session(site: Site, ctx: StageContext) -> tuple[SimulatedDisk, Ledger]:
    """A file that was changed in the middle, one that was cut, and one that is clean."""
    await site.store.put(site.keys.content(NAME), DATA, condition=None)
    content = content_of(DATA, smallest_part=SIZES.part).with_packed(Packed(NAME, 0))
    tree = new_tree(uid=0, gid=0, mode=0o755, time=0)
    for number, name in enumerate(("changed", "cut", "clean"), 2):
        tree.apply(as_found(content, name, number))
    disk = SimulatedDisk(SessionId("5" * 32), snapshot.encode(tree))
    ledger = ledger_on(disk, tree, ctx)
    ledger.commit(Write(ino=Inode(2), offset=300, time=9), b"ours")
    ledger.commit(Link(ino=Inode(2), parent=TOP, name="same", time=9))
    ledger.commit(SetAttributes(ino=Inode(3), time=9, size=200))
    ledger.commit(SetAttributes(ino=Inode(3), time=9, size=250))
    return disk, ledger


def reader(ledger: Ledger) -> Callable[[str], Awaitable[bytes]]:
    async def nothing(content: Content, start: int, stop: int) -> bytes:
        await trio.lowlevel.checkpoint()
        raise ContentLost("the bucket is not asked")

    async def read(name: str) -> bytes:
        node = ledger.tree.find(Path(name))
        assert node is not None
        return await ledger.read(node, 0, node.size, fetch=nothing)

    return read


def attributes(node: Node | None) -> tuple[object, ...]:
    assert node is not None
    return node.mtime, node.ctime, node.size, node.limit, node.is_clean


async def test_changed_files_need_nothing_of_the_bucket_afterwards() -> None:
    site = Site()
    ctx = site.context()
    disk, ledger = await session(site, ctx)
    before = [attributes(ledger.tree.find(Path(name))) for name in ("changed", "cut", "clean")]
    edits = ledger.tree.edits
    assert lacking_ranges(ledger.tree) == {"changed": [(0, 300), (304, 1024)], "cut": [(0, 200)]}
    assert await complete(ctx, ledger) == {}

    tree = snapshot.decode(snapshot.encode(ledger.tree))
    read = reader(ledger_on(disk, tree, ctx))
    assert await read("changed") == CHANGED
    assert await read("same") == CHANGED
    assert await read("cut") == DATA[:200] + bytes(50)
    names = ("changed", "cut", "clean")
    assert [attributes(tree.find(Path(name))) for name in names] == before
    assert tree.edits == edits, "what is carried is no edit"


async def test_each_part_is_fetched_once_and_progress_counts_it() -> None:
    site = Site()
    ctx = site.context()
    _, ledger = await session(site, ctx)
    asked: list[tuple[int, int]] = []
    real = ledger._fetch

    async def fetch(content: Content, start: int, stop: int) -> bytes:
        asked.append((start // SIZES.part, (stop - 1) // SIZES.part))
        return await real(content, start, stop)

    ledger._fetch = fetch
    await complete(ctx, ledger)
    assert all(first == last for first, last in asked)
    progress = ctx.uploads.progress
    assert progress is not None
    assert (progress.files, progress.bytes, progress.left) == (2, 1020 + 200, 0)


async def test_what_can_not_be_had_is_named_and_the_rest_is_here() -> None:
    site = Site()
    ctx = site.context()
    _, ledger = await session(site, ctx)
    damaged = bytes([*DATA[:600], *b"damaged", *DATA[607:]])
    await site.store.put(site.keys.content(NAME), damaged, condition=None)
    part = SIZES.part
    assert await complete(ctx, ledger) == {
        "changed": [(600 // part * part, 600 // part * part + part)]
    }
    assert await reader(ledger)("cut") == DATA[:200] + bytes(50)


async def test_a_bucket_that_refuses_holds_up_nothing_and_one_that_is_away_is_an_error() -> None:
    site = Site()
    ctx = site.context()
    _, ledger = await session(site, ctx)

    async def refuse(content: Content, start: int, stop: int) -> bytes:
        await trio.lowlevel.checkpoint()
        raise error

    ledger._fetch = refuse
    error: StoreError = StoreUnavailable("no answer")
    with pytest.raises(StoreUnavailable):
        await complete(ctx, ledger)
    error = StoreRefused("not yours")
    assert await complete(ctx, ledger) == {"changed": [(0, 300), (304, 1024)], "cut": [(0, 200)]}
