"""Reading a content from the bucket: from any of its homes, checked, never of two versions.

Order: contents objects first (they are immutable), then plain objects under the condition of their
ETag. Bytes whose digest is wrong count as no bytes; where no home has the right ones, the digest is
looked up in the current tree and in what it has kept, and else ContentLost is raised: never zeros.
"""

from collections.abc import Iterator
from functools import partial
from hashlib import md5

from pdfs.core.content import Content, Packed, Plain, digest_of, part_size, part_spans
from pdfs.core.ids import ObjectName
from pdfs.core.manifest import Manifest
from pdfs.errors import ContentLost, ObjectNotFound, PreconditionFailed, StoreError, UsageError
from pdfs.stage.context import StageContext
from pdfs.stage.load import read_tree
from pdfs.stage.root import read_root
from pdfs.store import step
from pdfs.store.step import Step

_LOOKS = 2
_NOT_THERE = (ObjectNotFound, PreconditionFailed, UsageError)


async def fetch_parts(
    ctx: StageContext,
    content: Content,
    first: int,
    last: int,
    *,
    look_up: bool = True,
    purpose: Step = Step.FETCH,
) -> list[bytes]:
    """The parts `first` … `last - 1` of the content's grid, whole and checked.

    With `look_up`, homes that the content doesn't name are looked for by its digest. Raises
    ContentLost; StoreError where a home may have them but the store didn't answer.
    """
    with step.at(purpose):
        spans = part_spans(content.size, ctx.sizes.part)[first:last]
        return [
            await _fetch_part(ctx, content, number, span, look_up)
            for number, span in enumerate(spans, first)
        ]


async def fetch_whole(ctx: StageContext, content: Content) -> bytes:
    """All bytes of a content that fits into memory."""
    return b"".join(
        await fetch_parts(ctx, content, 0, len(part_spans(content.size, ctx.sizes.part)))
    )


async def fetch_span(ctx: StageContext, content: Content, start: int, stop: int) -> bytes:
    """Bytes start … stop of a content, of which whole parts are read and checked."""
    part = part_size(content.size, ctx.sizes.part)
    first = start // part
    parts = await fetch_parts(ctx, content, first, -(-stop // part))
    return b"".join(parts)[start - first * part : stop - first * part]


async def _fetch_part(
    ctx: StageContext, content: Content, number: int, span: tuple[int, int], look_up: bool
) -> bytes:
    found = await _from_homes(ctx, content, number, span)
    if found is None and look_up:
        found = await _from_elsewhere(ctx, content, number, span)
    if found is None:
        raise ContentLost(
            f"bytes {span[0]} to {span[1]} of {_called(content)} are nowhere in the bucket",
            remedy="another tool replaced or deleted them; bring them back from a backup",
        )
    return found


async def _from_homes(
    ctx: StageContext, content: Content, number: int, span: tuple[int, int]
) -> bytes | None:
    """The part from the first home that has it; None where none has.

    A store that refuses or stays silent about one home may still give another; its error is raised
    only when no other home had the bytes. One answer that a home has them not, or wrong ones, is
    not believed: what counts as lost here is published as lost.
    """
    silent: StoreError | None = None
    unproven: bytes | None = None
    doubtful = list(_homes(content))
    for _ in range(_LOOKS):
        homes, doubtful = doubtful, []
        for home in homes:
            try:
                data = await _read(ctx, home, span)
            except _NOT_THERE:
                doubtful.append(home)
            except StoreError as error:
                silent = error
            else:
                if _is_right(content, number, data, home) or data == unproven:
                    return data
                doubtful.append(home)
                unproven = None if content.digest else data
    if silent is not None:
        raise silent
    return None


def _homes(content: Content) -> Iterator[Packed | Plain]:
    yield from content.packed
    yield from content.plain


async def _read(ctx: StageContext, home: Packed | Plain, span: tuple[int, int]) -> bytes:
    start, stop = span
    match home:
        case Packed(name, offset):
            key, at, etag = ctx.keys.content(name), (offset + start, offset + stop), None
        case Plain(path, plain_etag):
            key, at, etag = ctx.keys.plain(path), span, plain_etag
    fetched = await ctx.patience.ask(
        lambda: ctx.store.get(key, span=at, if_match=etag), size=stop - start
    )
    return fetched.body


def _is_right(content: Content, number: int, data: bytes, home: Packed | Plain) -> bool:
    if content.parts:
        return number < len(content.parts) and digest_of(data) == content.parts[number]
    if content.digest is not None:
        return digest_of(data) == content.digest
    return _has_etag(data, home) if len(data) == content.size else True


def _has_etag(data: bytes, home: Packed | Plain) -> bool:
    """Whether these are the bytes of that object of another tool's, as far as its ETag tells.

    Most stores make it the MD5 of the bytes; where one does not, two looks that agree have to do.
    """
    if isinstance(home, Packed) or len(home.etag) != 32:
        return True
    return md5(data, usedforsecurity=False).hexdigest() == home.etag


async def _from_elsewhere(
    ctx: StageContext, content: Content, number: int, span: tuple[int, int]
) -> bytes | None:
    """The part from where the current generation knows this content by its digest.

    One that nobody had read yet is known by its plain home, if a publish has read it to replace it.

    A publish may take such a home away while it is asked for: then that publish has kept another.
    """
    seen: ObjectName | None = None
    while True:
        root = await read_root(ctx)
        if root is None or root.root.tree in (None, seen):
            return None
        seen = root.root.tree
        manifest = await read_tree(ctx, seen)
        elsewhere = await ctx.compute(partial(_homes_in, manifest, content))  # 0.4 s of a million
        if elsewhere is not None:
            found = await _from_homes(ctx, elsewhere, number, span)
            if found is not None:
                return found


def _homes_in(manifest: Manifest, content: Content) -> Content | None:
    if content.digest is None:
        return manifest.homes_of_unread(content)
    return manifest.homes_of(content.digest)


def _called(content: Content) -> str:
    names = ", ".join(repr(home.path) for home in content.plain)
    return names or f"content {(content.digest or b'').hex()}"
