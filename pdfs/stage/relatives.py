"""Whether a new object would get in the way of another tool's, where a store does not refuse that.

Some stores take `a` beside `a/b`, and one of the two is in no listing from then on (MinIO): what is
not listed counts as removed by another tool. So it is looked for before such a put. An object that
appears between the look and the put goes unnoticed: no store like that can tell.
"""

from pdfs.core.ids import Path
from pdfs.core.keys import ancestors, parent
from pdfs.errors import ObjectNotFound
from pdfs.stage.context import StageContext


class Relatives:
    """The objects above and below new ones; what was looked at is remembered for one apply."""

    def __init__(self, ctx: StageContext) -> None:
        self._ctx = ctx
        self._free: set[Path] = set()
        """No object has this path."""
        self._directories: dict[Path, frozenset[str]] = {}
        """Of a directory, the prefixes of keys with a further slash."""

    async def has_any(self, path: Path) -> bool:
        """Whether an object is above or below `path`; False where the store itself would refuse."""
        if not self._ctx.store.traits.hides_nested:
            return False
        for above in ancestors(path):
            if await self._is_object(above):
                return True
        return self._prefix(path) in await self._below(parent(path))

    async def _is_object(self, path: Path) -> bool:
        if path in self._free:
            return False
        key = self._ctx.keys.plain(path)
        try:
            await self._ctx.patience.look(lambda: self._ctx.store.head(key))
        except ObjectNotFound:
            self._free.add(path)
            return False
        return True

    async def _below(self, directory: Path) -> frozenset[str]:
        if directory not in self._directories:
            self._directories[directory] = await self._ctx.patience.ask(
                lambda: self._list(directory)
            )
        return self._directories[directory]

    async def _list(self, directory: Path) -> frozenset[str]:
        place = self._prefix(directory) if directory else self._ctx.keys.plain_prefix
        pages = self._ctx.store.list_directories(place)
        return frozenset([name async for page in pages for name in page])

    def _prefix(self, path: Path) -> str:
        return f"{self._ctx.keys.plain(path)}/"
