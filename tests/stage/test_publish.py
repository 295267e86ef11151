"""A publish beside somebody who goes on writing: it is of one moment, the rest the next's."""

from collections.abc import Callable, Mapping

import pytest
import trio

from pdfs.core.ids import Path
from pdfs.core.record import SetAttributes
from pdfs.stage.fetch import fetch_span
from pdfs.stage.load import read_tree
from pdfs.store.faulty import Fate, Request
from pdfs.store.step import Step
from tests.stage.contexts import Site
from tests.stage.works import Person, sit_down

MODEL, LIST, OLD, LATE = Path("model.dwg"), Path("list.csv"), Path("old.dxf"), Path("late.txt")
BACKUP = Path("model.bak")
BEFORE = {MODEL: b"model as of the publish" * 40, LIST: b"1;2;3", OLD: b"old"}
AMID = [
    Step.STAGE_CONTENT,
    Step.COMMIT_TREE,
    Step.COMMIT_PLAN,
    Step.COMMIT_ROOT,
    Step.APPLY_PUT,
    Step.SETTLE_TREE,
    Step.SETTLE_ROOT,
]


async def working(
    site: Site, nursery: trio.Nursery, at: Step, work: Callable[[Person], None]
) -> Person:
    """anna, who does `work` amid her next publish: at its first request of that step."""
    anna: Person
    is_armed = False

    def fate_of(request: Request) -> Fate:
        nonlocal is_armed
        if is_armed and request.step is at:
            is_armed = False
            work(anna)
        return Fate.FINE

    anna = await sit_down(site, site.context(store=site.behind(nursery, fate_of)))
    anna.editor.write(MODEL, bytes(100) + BEFORE[MODEL][100:])
    anna.editor.write(OLD, BEFORE[OLD])
    await anna.publish()
    await anna.catch_up()
    anna.editor.write_at(MODEL, 0, BEFORE[MODEL][:100])
    anna.editor.write(LIST, BEFORE[LIST])
    is_armed = True
    return anna


async def generation(anna: Person) -> dict[Path, bytes]:
    """What a reader of the root finds."""
    manifest = await read_tree(anna.ctx, anna.root.root.tree)
    return {
        entry.path: await fetch_span(anna.ctx, entry.content, 0, entry.content.size)
        for entry in manifest.entries
        if entry.content is not None
    }


async def shown(anna: Person) -> dict[Path, bytes]:
    """What programs find."""
    return {path: await anna.work.read(node, 0, node.size) for path, node in anna.editor.files()}


def overwrite(anna: Person) -> None:
    anna.editor.write_at(MODEL, 10, b"OVERWRITTEN")
    anna.editor.write_at(LIST, 3, b"now longer")


def cut_and_extend(anna: Person) -> None:
    node = anna.work.tree.find(MODEL)
    assert node is not None
    for size in (5, 300):
        anna.work.commit(SetAttributes(ino=node.ino, time=1, size=size))


def save_as_cad_does(anna: Person) -> None:
    anna.editor.move(MODEL, BACKUP)
    anna.editor.write(MODEL, b"saved anew")


def remove_and_make(anna: Person) -> None:
    anna.editor.delete(OLD)
    anna.editor.write(LATE, b"late")


def put_another_there(anna: Person) -> None:
    anna.editor.move(LIST, OLD)


AFTER: Mapping[Callable[[Person], None], Mapping[Path, bytes]] = {
    overwrite: BEFORE
    | {MODEL: BEFORE[MODEL][:10] + b"OVERWRITTEN" + BEFORE[MODEL][21:], LIST: b"1;2now longer"},
    cut_and_extend: BEFORE | {MODEL: BEFORE[MODEL][:5] + bytes(295)},
    save_as_cad_does: BEFORE | {BACKUP: BEFORE[MODEL], MODEL: b"saved anew"},
    remove_and_make: {MODEL: BEFORE[MODEL], LIST: BEFORE[LIST], LATE: b"late"},
    put_another_there: {MODEL: BEFORE[MODEL], OLD: BEFORE[LIST]},
}


@pytest.mark.parametrize("at", AMID, ids=lambda step: step.replace(": ", "-").replace(" ", "-"))
@pytest.mark.parametrize("work", AFTER, ids=lambda work: work.__name__)
async def test_what_is_written_during_a_publish_is_in_the_next(
    at: Step, work: Callable[[Person], None]
) -> None:
    site = Site()
    async with trio.open_nursery() as nursery:
        anna = await working(site, nursery, at, work)
        await anna.publish()
        caught = await anna.catch_up()
        assert not caught.conflicts
        assert await generation(anna) == BEFORE
        assert await shown(anna) == AFTER[work]
        assert anna.work.tree.has_edits
        await anna.publish()
        assert not (await anna.catch_up(ends=True)).conflicts
        assert await generation(anna) == await shown(anna) == AFTER[work]
        nursery.cancel_scope.cancel()
    plain = {
        site.keys.path_of(key): stored.body
        for key, stored in site.store.objects.items()
        if key.startswith(site.keys.plain_prefix)
    }
    assert plain == AFTER[work]
    assert not await anna.is_in_root()
