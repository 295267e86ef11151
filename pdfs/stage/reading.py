"""Reading every byte of a stage, to see whether it is what its digest says.

A contents object of small files is read whole, once; what is longer, part by part. A place that is
not there, or is another tool's by now, says nothing here: the listing does.
"""

from collections.abc import Iterator
from functools import partial

from pdfs.core.content import Content, Digest, Home, Packed, Plain, digest_of, part_spans
from pdfs.core.ids import ObjectName
from pdfs.core.look import Look
from pdfs.errors import ContentLost, ObjectNotFound
from pdfs.stage.context import StageContext
from pdfs.stage.fetch import fetch_parts
from pdfs.stage.together import Call, together
from pdfs.store import step
from pdfs.store.step import Step

Wrong = set[tuple[Home, Digest | None]]
Packs = dict[ObjectName, dict[Packed, Content]]


async def wrong_homes(ctx: StageContext, look: Look) -> Wrong:
    """The homes of the root's tree, of its plan, and of what it has kept, that have other bytes.

    Raises StoreError. Memory: as many contents objects of small files, or parts, as are read at
    once.
    """
    wrong: Wrong = set()
    sizes = {each.name: each.size for each in look.objects}
    etags = {row.path: row.etag for row in look.rows}
    packs: Packs = {}
    calls: list[Call] = []
    for home, content in _homes(look):
        match home:
            case Packed(name=name) if sizes.get(name, -1) < home.offset + content.size:
                continue
            case Packed(name=name) if content.size < ctx.sizes.small:
                packs.setdefault(name, {})[home] = content
            case Plain(path=path, etag=etag) if etags.get(path) != etag:
                continue
            case _:
                calls.append(partial(_read, ctx, home, content, wrong))
    calls += [partial(_read_pack, ctx, name, pack, wrong) for name, pack in packs.items()]
    with step.at(Step.FETCH):
        await together(calls, most=ctx.sizes.parallel)
    return wrong


def _homes(look: Look) -> Iterator[tuple[Home, Content]]:
    """Each home once, with a content that is known by its digest."""
    assert look.tree is not None
    contents = list(look.tree.contents())
    contents += [] if look.plan is None else [put.content for put in look.plan.puts]
    seen: Wrong = set()
    homes: tuple[Home, ...]
    for content in contents:
        if content.digest is None or not content.size:
            continue
        homes = (*content.packed, *content.plain)
        for home in homes:
            if (home, content.digest) not in seen:
                seen.add((home, content.digest))
                yield home, content


async def _read(ctx: StageContext, home: Home, content: Content, wrong: Wrong) -> None:
    if isinstance(home, Packed):
        there = content.at(packed=(home,), plain=())
    else:
        there = content.at(packed=(), plain=(home,))
    try:
        for number in range(len(part_spans(content.size, ctx.sizes.part))):
            await fetch_parts(ctx, there, number, number + 1, look_up=False)
    except ContentLost:
        if isinstance(home, Packed) or await _is_still(ctx, home):
            wrong.add((home, content.digest))


async def _is_still(ctx: StageContext, home: Plain) -> bool:
    """Whether it is this object that was read."""
    key = ctx.keys.plain(home.path)
    try:
        return (await ctx.patience.look(lambda: ctx.store.head(key))).etag == home.etag
    except ObjectNotFound:
        return False


async def _read_pack(
    ctx: StageContext, name: ObjectName, pack: dict[Packed, Content], wrong: Wrong
) -> None:
    first = min(home.offset for home in pack)
    last = max(home.offset + content.size for home, content in pack.items())
    key = ctx.keys.content(name)
    try:
        got = await ctx.patience.ask(
            lambda: ctx.store.get(key, span=(first, last)), size=last - first
        )
    except ObjectNotFound:
        return
    for home, content in pack.items():
        start = home.offset - first
        if not _is_right(content, got.body[start : start + content.size], ctx.sizes.part):
            wrong.add((home, content.digest))


def _is_right(content: Content, data: bytes, smallest_part: int) -> bool:
    if not content.parts:
        return digest_of(data) == content.digest
    spans = part_spans(content.size, smallest_part)
    return [digest_of(data[start:stop]) for start, stop in spans] == list(content.parts)
