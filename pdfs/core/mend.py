"""What a repair does to the tree, so that the publish after it puts the bucket right.

    a home that is none             the file lets go of it; without any other, it is lost, and
                                    published as that
    a plain object whose bytes      is no longer taken for the file: the publish keeps a copy of it,
    are not those of its ETag       and puts what the file holds in its place
    no plain object                 the publish puts it

No byte of a file is changed by this, and no name is taken away.
"""

from pdfs.core.content import Content, Packed, Plain
from pdfs.core.ids import TOP, Inode, ObjectName, Path, PublishId
from pdfs.core.look import Look, Places
from pdfs.core.merge import Row
from pdfs.core.record import Echoed, Record, SetAttributes, Settled
from pdfs.core.tree import Tree


def mending(tree: Tree, look: Look) -> list[Record]:
    """The records, for a tree that stands on the generation of `look`; none where all is well."""
    assert look.tree is not None
    places, rows = Places(look), {row.path: row for row in look.rows}
    bases: dict[Inode, Content] = {}
    echoes: list[Record] = []
    is_unput = False
    for entry in look.tree.entries:
        node = tree.nodes.get(entry.ino)
        if entry.content is None or not entry.content.size or node is None:
            continue
        if not node.is_clean or not node.base.is_same(entry.content):
            continue  # changed since, by another tool
        homes = places.of(entry.content)
        if homes.bad and entry.ino not in bases:
            bases[entry.ino] = _without(node.base, homes.bad)
        is_wrong = any(isinstance(home, Plain) and home.path == entry.path for home in homes.bad)
        if is_wrong:
            echoes.append(_as_found(rows[entry.path], entry.path))
        has_none = entry.etag is None and look.is_visible(entry.path) and bool(homes.good)
        is_aside = entry.path in look.tree.aside
        is_unput = is_unput or (has_none and not is_aside and entry.path not in rows)
    if not (bases or echoes or is_unput):
        return []
    rehomed = [_rehomed(tree, bases)] if bases else []
    return [*rehomed, *echoes, touched(tree)]


def touched(tree: Tree) -> Record:
    """An edit that changes nothing, so that there is something to publish."""
    return SetAttributes(ino=TOP, time=tree.nodes[TOP].ctime)


def _without(content: Content, bad: tuple[Packed | Plain, ...]) -> Content:
    return content.at(
        packed=tuple(home for home in content.packed if home not in bad),
        plain=tuple(home for home in content.plain if home not in bad),
    )


def _as_found(row: Row, path: Path) -> Echoed:
    """The plain object as what it is: one with the ETag of ours and bytes that nobody knows."""
    there = Content(size=row.size, digest=None, plain=(Plain(path, row.etag),))
    return Echoed(path=path, content=there)


def _rehomed(tree: Tree, bases: dict[Inode, Content]) -> Settled:
    """The same generation, with these homes."""
    assert tree.base is not None
    return Settled(
        publish=PublishId(tree.base),
        generation=tree.generation,
        tree=ObjectName(tree.base),
        contents=tuple(bases.values()),
        bases=tuple((ino, index) for index, ino in enumerate(bases)),
        known=(),
    )
