"""Giving contents a home that no plan touches: small ones packed together, big ones each alone.

Contents objects have names that nobody else can have chosen, so writing one twice changes nothing,
and one whose publish never commits is garbage that no generation names.
"""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from functools import partial

from pdfs.core.content import Content, Digest, Packed, content_of, described, digest_of, part_spans
from pdfs.core.ids import Fence, Inode, ObjectName, Path, object_name
from pdfs.core.progress import Phase
from pdfs.errors import ContentLost
from pdfs.stage.contents import part_name
from pdfs.stage.context import StageContext
from pdfs.stage.fetch import fetch_parts
from pdfs.stage.immutable import put_immutable
from pdfs.stage.together import together
from pdfs.stage.upload import Sent, send_in_parts
from pdfs.store import step
from pdfs.store.step import Step

Read = Callable[[int, int], Awaitable[bytes]]
"""Bytes start … stop of one content. Raises ContentLost where they are nowhere."""


@dataclass(frozen=True, slots=True)
class Unstaged:
    """One content that needs a home."""

    path: Path
    """What to call it when it is shown."""
    size: int
    read: Read
    is_kept: bool = False
    """Somebody may want to read it here once it is staged: its parts go to `ctx.keep`."""


@dataclass(frozen=True, slots=True)
class Staged:
    """What became of the files and of the displaced contents."""

    files: dict[Inode, Content]
    """Files that could not be made whole are missing."""
    displaced: tuple[Content, ...]
    """Those whose digest nobody knew before with the plain homes that they are about to lose."""


async def stage_contents(
    ctx: StageContext,
    fence: Fence,
    files: dict[Inode, Unstaged],
    displaced: Iterable[Content],
) -> Staged:
    """Give every file, and every displaced content that can still be read, a home.

    Raises StoreError; what was written by then is garbage. Memory: the parts under way.
    """
    losing = list(displaced)
    with step.at(Step.STAGE_CONTENT):
        work = _Staging(ctx, fence)
        old = [_of_content(ctx, content) for content in losing]
        homes = await work.stage([*files.values(), *old])
    return Staged(
        files={ino: home for ino, home in zip(files, homes, strict=False) if home is not None},
        displaced=tuple(
            home.with_plain(*(content.plain if content.digest is None else ()))
            for home, content in zip(homes[len(files) :], losing, strict=True)
            if home is not None
        ),
    )


def _of_content(ctx: StageContext, content: Content) -> Unstaged:
    spans = part_spans(content.size, ctx.sizes.part)

    async def read(start: int, stop: int) -> bytes:
        number = spans.index((start, stop))
        (part,) = await fetch_parts(ctx, content, number, number + 1)
        if content.digest is None:  # who still has the file open knows it by the object that goes
            await ctx.keep(part_name(ctx, content, number), part)
        return part

    path = content.plain[0].path if content.plain else Path("")
    return Unstaged(path, content.size, read)


class _Staging:
    """One batch of contents on its way to contents objects."""

    def __init__(self, ctx: StageContext, fence: Fence) -> None:
        self._ctx = ctx
        self._fence = fence
        self._homes: list[Content | None] = []

    async def stage(self, contents: list[Unstaged]) -> list[Content | None]:
        """The contents with a packed home each, in the same order; None where bytes are lost."""
        self._homes = [None] * len(contents)
        total = sum(content.size for content in contents)
        self._ctx.uploads.begin(Phase.UPLOAD, files=len(contents), size=total)
        packs = [partial(self._stage_pack, contents, pack) for pack in self._packs(contents)]
        big = [
            partial(self._stage_big, index, content)
            for index, content in enumerate(contents)
            if content.size >= self._ctx.sizes.small
        ]
        await together([*packs, *big], most=self._ctx.sizes.parallel)
        return self._homes

    def _packs(self, contents: list[Unstaged]) -> list[list[int]]:
        """Indices of small contents, grouped so that each group fills one contents object."""
        packs: list[list[int]] = []
        room = 0
        for index, content in enumerate(contents):
            if content.size >= self._ctx.sizes.small:
                continue
            if not packs or content.size > room:
                packs.append([])
                room = self._ctx.sizes.pack
            packs[-1].append(index)
            room -= content.size
        return packs

    async def _stage_pack(self, contents: list[Unstaged], pack: list[int]) -> None:
        total = sum(contents[index].size for index in pack)
        path = contents[pack[0]].path
        with self._ctx.uploads.item(path, total, files=len(pack)):
            await self._send_pack(contents, pack)

    async def _send_pack(self, contents: list[Unstaged], pack: list[int]) -> None:
        name = self._name()
        body = bytearray()
        for index in pack:
            data = await _whole(self._ctx, contents[index])
            if data is not None:
                content = content_of(data, smallest_part=self._ctx.sizes.part)
                await self._keep(contents[index], content, data)
                home = (Packed(name, len(body)),) if data else ()
                self._homes[index] = content.with_packed(*home)
                body += data
        if body:
            await put_immutable(self._ctx, self._ctx.keys.content(name), bytes(body))

    async def _stage_big(self, index: int, content: Unstaged) -> None:
        name = self._name()
        send = self._send_whole if content.size <= self._ctx.sizes.whole else self._send_parts
        with self._ctx.uploads.item(content.path, content.size) as sent:
            staged = await send(name, content, sent)
        if staged is not None:
            self._homes[index] = staged.with_packed(Packed(name, 0))

    async def _send_whole(self, name: ObjectName, content: Unstaged, sent: Sent) -> Content | None:
        data = await _whole(self._ctx, content)
        if data is None:
            return None
        await put_immutable(self._ctx, self._ctx.keys.content(name), data)
        sent(len(data))
        staged = content_of(data, smallest_part=self._ctx.sizes.part)
        await self._keep(content, staged, data)
        return staged

    async def _send_parts(self, name: ObjectName, content: Unstaged, sent: Sent) -> Content | None:
        key, digests = self._ctx.keys.content(name), list[Digest]()

        async def part(start: int, stop: int) -> bytes:
            data = await content.read(start, stop)
            digests.append(digest_of(data))
            if content.is_kept:
                await self._ctx.keep(digests[-1], data)
            return data

        spans = part_spans(content.size, self._ctx.sizes.part)
        try:
            stored = await send_in_parts(
                self._ctx, key, [partial(part, *span) for span in spans], condition=None, sent=sent
            )
        except ContentLost:
            return None
        if stored is None:
            await self._ctx.patience.look(lambda: self._ctx.store.head(key))
        return described(content.size, tuple(digests))

    async def _keep(self, unstaged: Unstaged, staged: Content, data: bytes) -> None:
        if unstaged.is_kept:
            spans = part_spans(len(data), self._ctx.sizes.part)
            for number, (start, stop) in enumerate(spans):
                await self._ctx.keep(part_name(self._ctx, staged, number), data[start:stop])

    def _name(self) -> ObjectName:
        return object_name(self._fence, self._ctx.new_id())


async def _whole(ctx: StageContext, content: Unstaged) -> bytes | None:
    """All bytes of a content, or None where some are nowhere."""
    try:
        spans = part_spans(content.size, ctx.sizes.part)
        return b"".join([await content.read(start, stop) for start, stop in spans])
    except ContentLost:
        return None
