"""Making a session independent of the bucket: what its changed files still need of their bases
comes into its journal, before the session is given up.

Bytes that are kept so are no edit: the tree looks as before, and a publish of the session after
`pdfs recover undo` sends the same. What can't be had is named; nothing else is left out for it.
"""

from collections.abc import Iterator

from pdfs.core.content import part_spans
from pdfs.core.ids import Path
from pdfs.core.node import Based, Node
from pdfs.core.progress import Phase
from pdfs.core.tree import Tree
from pdfs.errors import ContentLost, DiskError, StoreRefused
from pdfs.stage.context import StageContext
from pdfs.stage.uploads import Uploads
from pdfs.stage.work import Work

Ranges = list[tuple[int, int]]


async def complete(ctx: StageContext, work: Work) -> dict[Path, Ranges]:
    """Bring here what changed files need; returns what could not be had, by file.

    What was kept survives a power cut when it returns. Raises StoreError where
    the bucket does not answer: what is here by then stays, and calling it again goes on.
    """
    lacking = lacking_ranges(work.tree)
    total = sum(stop - start for ranges in lacking.values() for start, stop in ranges)
    ctx.uploads.begin(Phase.COMPLETE, files=len(lacking), size=total)
    for path in lacking:
        node = work.tree.find(path)
        assert node is not None, "nobody changes names meanwhile"
        await _complete_file(ctx.uploads, work, path, node, ctx.sizes.part)
    missing = lacking_ranges(work.tree)
    try:
        await work.sync()
    except DiskError:
        return lacking
    return missing


def lacking_ranges(tree: Tree) -> dict[Path, Ranges]:
    """Ranges of changed files that are not in the journal, by file; of all its names the first."""
    found: dict[Path, Ranges] = {}
    seen: set[int] = set()
    for path, node in tree.walk():
        if node.is_file and not node.is_clean and node.ino not in seen:
            seen.add(node.ino)
            ranges = [
                (layer.start, layer.stop)
                for layer in node.layers(0, node.size)
                if isinstance(layer, Based)
            ]
            if ranges:
                found[path] = ranges
    return found


async def _complete_file(
    uploads: Uploads, work: Work, path: Path, node: Node, smallest_part: int
) -> None:
    pieces = list(_pieces(node, smallest_part))
    total = sum(stop - start for start, stop in pieces)
    with uploads.item(path, total) as arrived:
        for start, stop in pieces:
            try:
                work.keep(node, start, await work.read(node, start, stop))
            except (ContentLost, StoreRefused, DiskError):
                continue
            arrived(stop - start)


def _pieces(node: Node, smallest_part: int) -> Iterator[tuple[int, int]]:
    """What is to be fetched, cut where the parts of the base end: each is fetched once."""
    grid = part_spans(node.base.size, smallest_part)
    for layer in node.layers(0, node.size):
        if isinstance(layer, Based):
            for start, stop in grid:
                if start < layer.stop and layer.start < stop:
                    yield max(start, layer.start), min(stop, layer.stop)
