"""A tree as bytes, whole: what a session's journal starts from.

A JSON object: {schema, generation, base, edits, published_edits, in_flight, contents, known,
nodes}. `contents` is a table that nodes and `known` share by index. Fields of a node that have
their default are left out. Equal trees give equal bytes.
"""

import base64
from typing import Any

from pdfs.core import document
from pdfs.core.content import EMPTY, Content
from pdfs.core.document import Malformed, Reader
from pdfs.core.ids import TOP, Inode, ObjectName, Path, PublishId, Sequence
from pdfs.core.intervals import Extent, Position
from pdfs.core.node import Node
from pdfs.core.record import Kind, Publishing, content_in, content_out
from pdfs.core.tree import InFlight, Tree
from pdfs.errors import JournalDamaged, ObjectDamaged

SCHEMA = 1


class _Contents:
    """Contents by index, each once."""

    def __init__(self) -> None:
        self.table: list[Content] = []
        self._index: dict[Content, int] = {}

    def place(self, content: Content) -> int:
        if content not in self._index:
            self._index[content] = len(self.table)
            self.table.append(content)
        return self._index[content]


def encode(tree: Tree) -> bytes:
    """The bytes of a tree."""
    contents = _Contents()
    nodes = [tree.nodes[ino] for ino in sorted(tree.nodes)]
    for node in nodes:
        if node.is_file:
            contents.place(node.base)
    known = {path: contents.place(content) for path, content in sorted(tree.known.items())}
    return document.pack(
        {
            "schema": SCHEMA,
            "generation": tree.generation,
            "base": tree.base,
            "edits": tree.edits,
            "published_edits": tree.published_edits,
            "in_flight": None if tree.in_flight is None else _flight_out(tree.in_flight),
            "contents": (content_out(content) for content in contents.table),
            "known": known,
            "nodes": (_node_out(node, contents) for node in nodes),
        }
    )


def _flight_out(flight: InFlight) -> dict[str, object]:
    return {
        "publish": flight.record.publish,
        "sequence": flight.record.sequence,
        "edits": flight.edits,
        "boundary": [flight.boundary.segment, flight.boundary.offset],
        "lowest": [[ino, size] for ino, size in sorted(flight.lowest.items())],
    }


def _node_out(node: Node, contents: _Contents) -> dict[str, object]:
    out: dict[str, object] = {
        "ino": node.ino,
        "kind": node.kind,
        "mode": node.mode,
        "uid": node.uid,
        "gid": node.gid,
        "times": [node.atime, node.mtime, node.ctime],
        "links": node.links,
        "size": node.size,
    }
    if node.is_directory:
        out |= {"parent": node.parent, "entries": node.entries}
    if node.rdev:
        out["rdev"] = node.rdev
    if node.target:
        out["target"] = node.target
    if node.xattrs:
        out["xattrs"] = {
            name: base64.b64encode(value).decode("ascii")
            for name, value in sorted(node.xattrs.items())
        }
    if node.is_file:
        out |= {"base": contents.place(node.base), "limit": node.limit}
    if len(node.extents):
        out["extents"] = [
            [extent.start, extent.stop, extent.at.segment, extent.at.offset]
            for extent in node.extents
        ]
    return out


def decode(body: bytes | memoryview) -> Tree:
    """The tree in `body`. Raises JournalDamaged for anything else."""
    try:
        reader = document.unpack("snapshot", bytes(body), schema=SCHEMA)
        return _tree_in(reader)
    except (ObjectDamaged, ValueError, TypeError, KeyError, IndexError) as error:
        raise JournalDamaged(f"the session's snapshot can't be read: {error}") from error


def _tree_in(reader: Reader) -> Tree:
    contents = [content_in(item) for item in reader.items("contents")]
    nodes = [_node_in(Reader(item), contents) for item in reader.items("nodes")]
    by_number = {node.ino: node for node in nodes}
    _check_names(by_number, len(nodes))
    return Tree(
        nodes=by_number,
        known={
            Path(path): contents[_whole(index)] for path, index in reader.mapping("known").items()
        },
        orphans={node.ino for node in nodes if node.links == 0},
        generation=reader.whole("generation"),
        base=ObjectName(reader.text("base")) if reader.has("base") else None,
        in_flight=_flight_in(reader.child("in_flight")) if reader.has("in_flight") else None,
        edits=reader.whole("edits"),
        published_edits=reader.whole("published_edits"),
    )


def _check_names(nodes: dict[Inode, Node], count: int) -> None:
    if len(nodes) != count or TOP not in nodes or not nodes[TOP].is_directory:
        raise Malformed("a node stands twice, or the top directory is missing")
    if not all(ino in nodes for node in nodes.values() for ino in node.entries.values()):
        raise Malformed("a name leads to no node")


def _flight_in(reader: Reader) -> InFlight:
    segment, offset = reader.items("boundary")
    return InFlight(
        record=Publishing(
            publish=PublishId(reader.text("publish")), sequence=Sequence(reader.whole("sequence"))
        ),
        boundary=Position(_whole(segment), _whole(offset)),
        edits=reader.whole("edits"),
        lowest={Inode(_whole(ino)): _whole(size) for ino, size in reader.items("lowest")},
    )


def _node_in(reader: Reader, contents: list[Content]) -> Node:
    atime, mtime, ctime = (_signed(item) for item in reader.items("times"))
    kind = Kind(reader.text("kind"))
    node = Node(
        ino=Inode(reader.whole("ino", least=1)),
        kind=kind,
        mode=reader.whole("mode"),
        uid=reader.whole("uid"),
        gid=reader.whole("gid"),
        atime=atime,
        mtime=mtime,
        ctime=ctime,
        links=reader.whole("links"),
        rdev=reader.whole("rdev", 0),
        target=reader.text("target", ""),
        size=reader.whole("size"),
        limit=reader.whole("limit", 0),
        base=contents[reader.whole("base")] if kind is Kind.FILE else EMPTY,
        parent=Inode(reader.whole("parent", 0)),
    )
    for name, value in reader.mapping("xattrs").items():
        node.set_xattr(name, base64.b64decode(value, validate=True))
    for name, ino in reader.mapping("entries").items():
        node.entries[name] = Inode(_whole(ino))
    for start, stop, segment, offset in reader.items("extents"):
        position = Position(_whole(segment), _whole(offset))
        node.lay(Extent(_whole(start), _whole(stop), position))
    return node


def _whole(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise Malformed(f"{value!r} is not a whole number")
    return value


def _signed(value: Any) -> int:
    if type(value) is not int:
        raise Malformed(f"{value!r} is not a whole number")
    return value
