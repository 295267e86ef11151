"""Requests beside the publish of a big stage: none waits long for what only computes."""

import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest
import trio

from pdfs.core.content import ETag, Packed, Plain, content_of
from pdfs.core.entries import Entry
from pdfs.core.generation import tree_of
from pdfs.core.ids import Fence, Inode, Path, PublishId, object_name
from pdfs.core.manifest import Top, never_published
from pdfs.core.record import Kind
from pdfs.stage.context import Compute, InThread, at_once
from pdfs.stage.load import read_tree, write_tree
from pdfs.stage.root import swap_root
from pdfs.stage.start import start
from tests.lengths import Length
from tests.simulation.diary import Diary
from tests.simulation.editor import Editor
from tests.stage.contexts import Site, claimant_of
from tests.stage.works import Person, ledger_in_memory

REQUEST = 0.001
"""Seconds between two requests."""


def entries(count: int) -> tuple[Entry, ...]:
    """Files as an earlier publish left them, 100 to a directory."""
    made: list[Entry] = []
    for number in range(count):
        folder = Path(f"unit {number // 100:04}")
        ino = Inode(2 * number + 10)
        if number % 100 == 0:
            made.append(Entry(path=folder, ino=ino, kind=Kind.DIRECTORY, mode=0o755, mtime=1))
        path = Path(f"{folder}/sheet {number:06}.dwg")
        home = Packed(object_name(Fence(1), "a" * 32), 0)
        content = content_of(b"%d" % number).with_packed(home)
        content = content.with_plain(Plain(path, ETag(f"{number:032x}")))
        ino = Inode(ino + 1)
        made.append(Entry(path=path, ino=ino, kind=Kind.FILE, mode=0o644, mtime=1, content=content))
    return tuple(made)


async def big_stage(site: Site, compute: Compute, files: int) -> Person:
    """anna on a stage of so many files."""
    ctx = replace(site.context(), compute=compute)
    started = await start(ctx, claimant_of(ctx))
    root = started.root
    name = object_name(root.root.fence, ctx.new_id())
    manifest = replace(
        never_published(Top(mtime=1)),
        generation=1,
        publish=PublishId(name),
        entries=entries(files),
    )
    await write_tree(ctx, name, manifest)
    root = await swap_root(ctx, root, replace(root.root, generation=1, tree=name))
    work = ledger_in_memory(ctx, tree_of(manifest, name, uid=1000, gid=1000))
    work.adopt(root.root.fence)
    editor = Editor(work, Diary(ctx.owner.session), random.Random(0), 0)
    return Person(ctx, root, work, editor, started.lock)


async def longest_gap(beside: Callable[[], Awaitable[object]]) -> tuple[float, float]:
    """(longest wait of a request that is made beside it, how long it took), in seconds."""
    longest = 0.0

    async def serve() -> None:
        nonlocal longest
        while True:
            asked = time.perf_counter()
            await trio.sleep(REQUEST)
            longest = max(longest, time.perf_counter() - asked)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        began = time.perf_counter()
        await beside()
        took = time.perf_counter() - began
        nursery.cancel_scope.cancel()
    return longest, took


@pytest.mark.real_clock
async def test_no_request_waits_for_a_quarter_of_the_publish_of_a_big_stage(length: Length) -> None:
    anna = await big_stage(Site(), InThread(), length.pick(sample=6_000, full=6_000, long=100_000))

    async def publish() -> None:
        anna.editor.write(Path("new.csv"), b"1;2;3")
        await anna.publish()
        await anna.catch_up()

    longest, took = await longest_gap(publish)
    assert longest < took / 4, f"{longest:.3f} s of {took:.3f} s"
    manifest = await read_tree(anna.ctx, anna.root.root.tree)
    assert "new.csv" in {entry.path for entry in manifest.entries}


@pytest.mark.real_clock
async def test_what_is_written_beside_the_computing_is_in_the_next_publish() -> None:
    """The tree is that of one moment, whatever is written while a thread looks at it."""
    computing = 0

    async def beside(call: Callable[[], object]) -> object:
        nonlocal computing
        computing += 1
        anna.editor.write(Path("busy.csv"), b"%d" % computing)
        anna.editor.write(Path(f"late {computing}.csv"), b"late")
        return await at_once(call)

    anna = await big_stage(Site(), at_once, 200)
    anna.editor.write(Path("busy.csv"), b"as of the publish")
    anna.ctx = replace(anna.ctx, compute=beside)  # type: ignore[arg-type]  # any value goes through
    await anna.publish()
    manifest = await read_tree(anna.ctx, anna.root.root.tree)
    paths = {entry.path: entry.content for entry in manifest.entries}
    assert computing >= 3
    assert not [path for path in paths if path.startswith("late")]
    content = paths[Path("busy.csv")]
    assert content is not None
    assert content.digest == content_of(b"as of the publish").digest
    await anna.catch_up()
    assert anna.work.tree.has_edits
