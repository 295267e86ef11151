"""Contents as they are read: from the cache, else from the bucket, each part once at a time.

What a program asks for goes to the bucket at once. The prefetch takes what is left: it has slots of
its own, so that nobody waits behind it, and stops where the cache is full.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from itertools import chain

import trio

from pdfs.core.content import Content, Digest, Packed, digest_of, part_size, part_spans
from pdfs.core.ids import ObjectName
from pdfs.errors import ContentLost, DamageFound, StoreError, StoreUnavailable
from pdfs.local.cache import PartCache, unread_name
from pdfs.stage.context import StageContext
from pdfs.stage.fetch import fetch_parts
from pdfs.stage.together import together
from pdfs.store import step
from pdfs.store.step import Step


@dataclass(slots=True)
class Prefetch:
    """How far the prefetch is."""

    files: int = 0
    of_files: int = 0
    bytes: int = 0
    of_bytes: int = 0
    is_over: bool = False


@dataclass(slots=True)
class Received:
    """What came from the bucket so far, the prefetch included."""

    parts: int = 0
    bytes: int = 0


class Contents:
    """The stage's contents, read through the cache."""

    def __init__(self, ctx: StageContext, cache: PartCache) -> None:
        self._ctx = ctx
        self._cache = cache
        self._under_way: dict[Digest, trio.Event] = {}
        self.prefetched = Prefetch()
        self.received = Received()

    async def read(self, content: Content, start: int, stop: int) -> bytes:
        """Bytes start … stop. Raises ContentLost; StoreError, also when it takes too long."""
        with trio.move_on_after(self._ctx.timing.read):
            return await self.read_patiently(content, start, stop)
        raise StoreUnavailable(
            f"{self._ctx.store.name} did not deliver within {self._ctx.timing.read:g} s"
        )

    async def read_patiently(self, content: Content, start: int, stop: int) -> bytes:
        """The same, for as long as a link that lives needs."""
        size = part_size(content.size, self._ctx.sizes.part)
        first = start // size
        parts = [await self._part(content, n) for n in range(first, -(-stop // size))]
        joined = parts[0] if len(parts) == 1 else b"".join(parts)
        return joined[start - first * size : stop - first * size]

    async def bring(self, content: Content) -> None:
        """Bring the whole of a content into the cache, part by part. Raises as `read` does."""
        for number in range(len(part_spans(content.size, self._ctx.sizes.part))):
            await self._part(content, number)

    async def _part(self, content: Content, number: int) -> bytes:
        name = part_name(self._ctx, content, number)
        while True:
            found = await self._cache.get(name)
            if found is not None:
                return found
            if name not in self._under_way:
                return await self._fetch(content, number, name)
            await self._under_way[name].wait()

    async def _fetch(self, content: Content, number: int, name: Digest) -> bytes:
        self._under_way[name] = trio.Event()
        try:
            (data,) = await fetch_parts(self._ctx, content, number, number + 1)
            self._count(data)
            await self._cache.put(name, data)
        finally:
            self._under_way.pop(name).set()
        return data

    def _count(self, data: bytes) -> None:
        self.received.parts += 1
        self.received.bytes += len(data)

    # --- prefetch ---------------------------------------------------------------------------------

    async def prefetch(self, contents: Iterable[Content]) -> None:
        """Bring contents into the cache while there is room; what fails is left to whoever reads.

        The smallest come first, and those that lie side by side in a contents object with one
        request.
        """
        ordered = sorted(contents, key=lambda content: content.size)
        wanted = [content for content in ordered if content.size and not self._is_here(content)]
        state = self.prefetched
        state.of_files, state.of_bytes = len(wanted), sum(content.size for content in wanted)
        small: dict[ObjectName, list[Content]] = {}
        alone: list[Content] = []
        for content in wanted:
            if content.packed and content.size < self._ctx.sizes.small and content.digest:
                small.setdefault(content.packed[0].name, []).append(content)
            else:
                alone.append(content)
        packs = (partial(self._prefetch_pack, name, packed) for name, packed in small.items())
        others = (partial(self._prefetch_one, content) for content in alone)
        await together(chain(packs, others), most=max(1, self._ctx.sizes.parallel - 2))
        state.is_over = True

    def _is_here(self, content: Content) -> bool:
        count = len(part_spans(content.size, self._ctx.sizes.part))
        if content.digest is None and not content.plain:
            return True  # lost: there is nowhere to look
        names = (part_name(self._ctx, content, number) for number in range(count))
        return all(map(self._cache.has, names))

    async def _prefetch_one(self, content: Content) -> None:
        try:
            for number, (start, stop) in enumerate(part_spans(content.size, self._ctx.sizes.part)):
                if self._cache.is_full:
                    return
                await self._part(content, number)
                self.prefetched.bytes += stop - start
        except (StoreError, DamageFound):
            return
        self.prefetched.files += 1

    async def _prefetch_pack(self, name: ObjectName, contents: list[Content]) -> None:
        for run in _runs(contents, self._ctx.sizes.pack):
            if self._cache.is_full:
                return
            start = run[0].packed[0].offset
            stop = run[-1].packed[0].offset + run[-1].size
            key = self._ctx.keys.content(name)
            try:
                with step.at(Step.FETCH):
                    got = await self._ctx.patience.ask(
                        partial(self._ctx.store.get, key, span=(start, stop)), size=stop - start
                    )
            except StoreError:
                return
            for content in run:
                await self._keep(content, got.body, content.packed[0].offset - start)

    async def _keep(self, content: Content, body: bytes, at: int) -> None:
        data = body[at : at + content.size]
        if content.digest is not None and digest_of(data) == content.digest:
            self._count(data)
            await self._cache.put(content.digest, data)
            self.prefetched.files += 1
            self.prefetched.bytes += content.size


def part_name(ctx: StageContext, content: Content, number: int) -> Digest:
    """What the cache calls a part; contents that nobody has read yet go by key and ETag."""
    if content.parts:
        return content.parts[number]
    if content.digest is not None:
        return content.digest
    if not content.plain:
        raise ContentLost("a file's content is nowhere in the bucket")
    home = content.plain[0]
    return unread_name(ctx.store.name, ctx.keys.plain(home.path), home.etag, number)


def _runs(contents: list[Content], most: int) -> list[list[Content]]:
    """Contents of one contents object, cut into runs that span at most `most` bytes."""
    runs: list[list[Content]] = []
    for content in sorted(contents, key=_offset):
        if runs and _offset(content) + content.size - _offset(runs[-1][0]) <= most:
            runs[-1].append(content)
        else:
            runs.append([content])
    return runs


def _offset(content: Content) -> int:
    home: Packed = content.packed[0]
    return home.offset
