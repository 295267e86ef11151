"""Collect: let go what nobody can need any more, and uploads that nobody goes on with.

What that is, is the rule of `core.garbage`.

Only who holds the stage collects, with nothing of its own under way. It looks at the root before
each batch, and stops where that is not the version that it surveyed: a Start came in between, and
with it perhaps a session that needs more. Where anything that is named can't be read, or the root
is older than what is there, it collects nothing.

Names are never used twice, so a delete that arrives late, or twice, hits nothing newer.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby

import trio

from pdfs.core.garbage import Internal, garbage, is_unowned
from pdfs.core.ids import Fence, Path, PublishId
from pdfs.core.keys import PLANS
from pdfs.core.notes import Collected as CollectedNote
from pdfs.core.notes import NotCollected
from pdfs.core.root import Root
from pdfs.errors import LockLost, ObjectDamaged, PdfsError
from pdfs.stage.context import StageContext
from pdfs.stage.inventory import Inventory, Survey, key_of, list_internal, list_trees, survey
from pdfs.stage.load import read_plan
from pdfs.stage.root import SeenRoot, read_root
from pdfs.stage.together import Call, together
from pdfs.store import step
from pdfs.store.objects import ListedUpload
from pdfs.store.step import Step

_SLACK = 2.0
"""Seconds by which two times of one store, in whole seconds, can seem to be in the wrong order."""


@dataclass(slots=True)
class Collected:
    """What was let go."""

    objects: int = 0
    bytes: int = 0
    uploads: int = 0

    def __bool__(self) -> bool:
        return bool(self.objects or self.uploads)


async def collect_if_due(ctx: StageContext, seen: SeenRoot) -> Collected:
    """`collect`, where a tree is left over for as long again as it was kept: about once a week.

    Finding out what is named takes reading every tree of the last week, which is not for each end
    of a session.
    """
    if not _is_due(seen.root, await list_trees(ctx), ctx.timing.kept_for):
        return Collected()
    return await collect(ctx, seen)


async def collect(ctx: StageContext, seen: SeenRoot) -> Collected:
    """Let go whatever may go by now; `seen` is the root as this process wrote it last.

    Raises LockLost where it is not that any more, and StoreError; what is gone by then was garbage.
    May be cancelled.
    """
    there = await list_internal(ctx)
    found = await survey(ctx, seen.root, there)
    done = Collected()
    if not found.is_sure or seen.root.plan is not None:
        return done
    fence = seen.root.fence
    litter = garbage(there.objects, found.named, seen.root, fence, there.now)
    for batch in _batches(litter, ctx):
        calls = [partial(_delete, ctx, each, done) for each in batch]
        await _carry_out(ctx, seen, calls)
    dead = await dead_uploads(ctx, seen.root, fence, there, found)
    if dead:
        await _carry_out(ctx, seen, [partial(_abort, ctx, upload, done) for upload in dead])
    return done


async def collect_at_end(
    ctx: StageContext, seen: SeenRoot, *, collects_all: bool
) -> tuple[Collected, NotCollected | CollectedNote | None]:
    """What the end of a session lets go, and what to tell of it: where it is due, for
    `timing.collect` s at most; or all that may go, however long that takes. Raises no PdfsError.
    """
    done = Collected()
    limit = math.inf if collects_all else ctx.timing.collect
    with trio.move_on_after(limit) as scope:
        try:
            done = await (collect if collects_all else collect_if_due)(ctx, seen)
        except PdfsError as error:
            return done, NotCollected(what=str(error))
    if scope.cancelled_caught:
        return done, NotCollected(what=f"it takes more than {limit:g} s")
    return done, CollectedNote(objects=done.objects, bytes=done.bytes) if done else None


def _is_due(root: Root, there: Inventory, kept_for: float) -> bool:
    needed = {root.tree, *(entry.base for entry in root.sessions)}
    needed |= {entry.last.tree for entry in root.sessions if entry.last is not None}
    return any(
        each.name not in needed and there.now - each.written > 2 * kept_for
        for each in there.objects
    )


def _batches(objects: Sequence[Internal], ctx: StageContext) -> Iterator[Sequence[Internal]]:
    """No batch holds what may go only when all before it are gone."""
    for _, group in groupby(objects, lambda each: each.folder):
        alike, size = list(group), 10 * ctx.sizes.parallel
        yield from (alike[start : start + size] for start in range(0, len(alike), size))


async def _carry_out(ctx: StageContext, seen: SeenRoot, calls: Sequence[Call]) -> None:
    with step.at(Step.COLLECT_CHECK_ROOT):
        now = await read_root(ctx)
    if now is None or now.etag != seen.etag:
        raise LockLost(
            "the stage was taken over while leftovers were collected",
            remedy="nothing that anybody needs is gone",
        )
    with step.at(Step.COLLECT_DELETE):
        await together(calls, most=ctx.sizes.parallel)


async def _delete(ctx: StageContext, found: Internal, done: Collected) -> None:
    key = key_of(ctx, found)
    await ctx.patience.ask(lambda: ctx.store.delete(key, condition=None))
    done.objects += 1
    done.bytes += found.size


async def _abort(ctx: StageContext, dead: ListedUpload, done: Collected) -> None:
    await ctx.patience.ask(lambda: ctx.store.abort_upload(dead.key, dead.upload))
    done.uploads += 1


# --- uploads ------------------------------------------------------------------------------------


async def dead_uploads(
    ctx: StageContext, root: Root, fence: Fence, there: Inventory, found: Survey
) -> list[ListedUpload]:
    """Uploads of PDFS that nobody goes on with.

    That of a contents object says by its name whose it is. That of a plain object may be another
    tool's, and is ours only if it began while a publish that put this key in parts was carried out.
    """
    inside = [each for each in there.uploads if not each.key.startswith(ctx.keys.plain_prefix)]
    dead = []
    for each in inside:
        place = ctx.keys.internal_of(each.key)
        if place is not None and is_unowned(place[1], root, fence, there.now):
            dead.append(each)
    plain = [each for each in there.uploads if each.key.startswith(ctx.keys.plain_prefix)]
    if plain:
        times = await _putting(ctx, there, found)
        dead += [each for each in plain if _is_within(times, ctx.keys.path_of(each.key), each)]
    return dead


Spans = dict[Path, list[tuple[float, float]]]


async def _putting(ctx: StageContext, there: Inventory, found: Survey) -> Spans:
    """When each path was being put in parts, by publishes that are over."""
    spans: Spans = {}
    for each in there.objects:
        settled = found.settled.get(PublishId(each.name)) if each.folder == PLANS else None
        if settled is None:
            continue
        try:
            plan = await read_plan(ctx, each.name)
        except ObjectDamaged:
            continue
        for put in plan.puts:
            if put.content.size > ctx.sizes.whole:
                for path in (put.path, put.conflict, put.aside):
                    spans.setdefault(path, []).append((each.written, settled))
    return spans


def _is_within(spans: Spans, path: Path, upload: ListedUpload) -> bool:
    return any(
        begun - _SLACK <= upload.initiated <= settled + _SLACK
        for begun, settled in spans.get(path, ())
    )
