"""Hypothesis strategies for the values of `pdfs.core`, hostile ones included."""

import os
from functools import lru_cache
from typing import Any

from hypothesis import strategies as st

from pdfs.core.content import Content, Digest, ETag, Packed, Plain
from pdfs.core.entries import Entry
from pdfs.core.ids import (
    TOP,
    Fence,
    Inode,
    ObjectName,
    Path,
    PublishId,
    RunId,
    Sequence,
    SessionId,
    object_name,
)
from pdfs.core.lease import Lock, LockState, Unpublished
from pdfs.core.manifest import Kept, Manifest, Top, relinked
from pdfs.core.plan import Delete, Plan, Put
from pdfs.core.record import (
    Brought,
    Create,
    Drop,
    Echoed,
    Found,
    Gone,
    Kind,
    Link,
    Publishing,
    Record,
    Rename,
    SetAttributes,
    Settled,
    SetXattr,
    Unlink,
    Write,
)
from pdfs.core.root import LastPublish, Root, SessionEntry

SMALL_UNSIGNED = st.integers(0, 3)
SIZES = st.sampled_from([0, 1, 4096, 8 << 20, (1 << 63) - 1]) | st.integers(0, (1 << 63) - 1)
TIMES = st.integers(-(1 << 63) * 10**9, (1 << 63) * 10**9 - 1)
MODES = st.integers(0, 0o7777)
HEX = "0123456789abcdef"

_raw = st.tuples(st.sampled_from([b"a", b"b"]), st.binary(max_size=3)).map(b"".join)
names = st.one_of(
    st.sampled_from(
        ["a", "B", "ä", "a\u0308", ".x", "x.dwg", "CON", "end ", "dot.", "\n", "<&>\"'"]
    ),
    st.text(
        st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=9
    ),
    _raw.filter(lambda raw: b"/" not in raw and b"\0" not in raw).map(os.fsdecode),
).filter(lambda name: name not in {".", ".."})
"""Names that a file system takes, those that are not UTF-8 too."""
paths = st.lists(names, min_size=1, max_size=4).map(lambda parts: Path("/".join(parts)))
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
digests = st.binary(min_size=32, max_size=32).map(lambda raw: Digest(raw))
etags = st.sampled_from(["e1", "e2"]).map(ETag) | st.text(HEX, min_size=1, max_size=9).map(ETag)
ids = st.text(HEX, min_size=1, max_size=8)
object_names = st.builds(object_name, st.integers(1, 10**12 - 1).map(Fence), ids)
publish_ids = object_names.map(PublishId)
inodes = st.integers(TOP + 1, (1 << 63) - 1).map(Inode)
xattrs = st.dictionaries(names, st.binary(max_size=9), max_size=2)
packed = st.builds(Packed, object_names, SIZES)
plain = st.builds(Plain, paths, etags)


def contents(*, with_plain: bool = True) -> st.SearchStrategy[Content]:
    """Any content; manifests and plans name its plain homes elsewhere."""
    return st.builds(
        Content,
        size=SIZES,
        digest=st.none() | digests,
        parts=st.lists(digests, max_size=2).map(tuple),
        packed=st.lists(packed, max_size=2).map(tuple),
        plain=st.lists(plain, max_size=2).map(tuple) if with_plain else st.just(()),
    )


# --- records --------------------------------------------------------------------------------------

_any_inode = st.integers(0, (1 << 64) - 1).map(Inode)
_time = st.integers(-(1 << 63), (1 << 63) - 1)
_optional = st.none() | st.integers(0, 1 << 40)
_rename: st.SearchStrategy[Rename] = st.builds(
    Rename,
    parent=_any_inode,
    name=names,
    new_parent=_any_inode,
    new_name=names,
    time=_time,
    exchange=st.booleans(),
)
_found: st.SearchStrategy[Found] = st.builds(
    Found,
    parent=_any_inode,
    name=names,
    path=paths,
    ino=_any_inode,
    mode=MODES,
    uid=SIZES,
    gid=SIZES,
    mtime=TIMES,
    time=TIMES,
    content=contents(),
)
_indices = st.integers(-1, 5)
RECORDS: dict[type[Any], st.SearchStrategy[Any]] = {
    Create: st.builds(
        Create,
        parent=_any_inode,
        name=names,
        ino=_any_inode,
        kind=st.sampled_from(Kind),
        mode=MODES,
        uid=SIZES,
        gid=SIZES,
        time=TIMES,
        rdev=SIZES,
        target=names | st.just(""),
    ),
    Write: st.builds(Write, ino=_any_inode, offset=SIZES, time=_time),
    SetAttributes: st.builds(
        SetAttributes,
        ino=_any_inode,
        time=TIMES,
        mode=_optional,
        uid=_optional,
        gid=_optional,
        size=_optional,
        atime=st.none() | TIMES,
        mtime=st.none() | TIMES,
    ),
    Rename: _rename,
    Link: st.builds(Link, ino=_any_inode, parent=_any_inode, name=names, time=TIMES),
    Unlink: st.builds(Unlink, parent=_any_inode, name=names, time=TIMES),
    SetXattr: st.builds(
        SetXattr, ino=_any_inode, name=names, time=TIMES, value=st.none() | st.binary(max_size=20)
    ),
    Drop: st.builds(Drop, ino=_any_inode),
    Publishing: st.builds(Publishing, publish=publish_ids, sequence=SIZES.map(Sequence)),
    Found: _found,
    Gone: st.builds(
        Gone, path=paths, time=TIMES, parent=st.none() | _any_inode, name=names | st.just("")
    ),
    Brought: st.builds(Brought, ino=_any_inode, start=SIZES),
    Echoed: st.builds(Echoed, path=paths, content=contents()),
    Settled: st.builds(
        Settled,
        publish=publish_ids,
        generation=SIZES,
        tree=object_names,
        contents=st.lists(contents(), max_size=2).map(tuple),
        bases=st.lists(st.tuples(_any_inode, _indices), max_size=2).map(tuple),
        known=st.lists(st.tuples(paths, _indices), max_size=2).map(tuple),
        sequence=st.none() | SIZES.map(Sequence),
        moves=st.lists(_rename, max_size=2).map(tuple),
        found=st.lists(_found, max_size=2).map(tuple),
    ),
}
records: st.SearchStrategy[Record] = st.one_of(*RECORDS.values())

# --- objects of the bucket ------------------------------------------------------------------------

unpublished = st.builds(Unpublished, files=SIZES, bytes=SIZES)
_years = 365.25 * 86400
moments = st.integers(round(-1900 * _years * 1000), round(7000 * _years * 1000)).map(
    lambda ms: ms / 1000
)
sessions = ids.map(SessionId)
runs = ids.map(RunId)
fences = st.integers(1, (1 << 31) - 2).map(Fence)
_users = texts | names

locks: st.SearchStrategy[Lock] = st.builds(
    Lock,
    id=ids,
    user=_users,
    machine=_users,
    since=moments,
    renewed=moments,
    expires=moments,
    session=sessions,
    run=runs,
    fence=fences,
    state=st.sampled_from(LockState),
    pending=unpublished,
    pdfs=texts,
)

_last = st.builds(
    LastPublish,
    generation=st.integers(1, 1 << 40),
    publish=publish_ids,
    tree=object_names,
    sequence=SIZES.map(Sequence),
)
_entries = st.builds(
    SessionEntry,
    session=sessions,
    user=_users,
    machine=_users,
    fences=st.lists(fences, max_size=3).map(tuple),
    base=st.none() | object_names,
    last=st.none() | _last,
    unpublished=unpublished,
)
roots: st.SearchStrategy[Root] = st.builds(
    Root,
    id=ids,
    generation=SIZES,
    fence=fences,
    session=sessions,
    run=runs,
    tree=st.none() | object_names,
    plan=st.none() | object_names,
    sessions=st.lists(_entries, max_size=3).map(tuple),
)

_puts = st.builds(
    Put,
    path=paths,
    content=contents(with_plain=False),
    mtime=st.integers(-(1 << 63), (1 << 63) - 1),
    expect=st.none() | etags,
    conflict=paths,
    aside=paths,
)
plans: st.SearchStrategy[Plan] = st.builds(
    Plan,
    publish=publish_ids,
    session=sessions,
    run=runs,
    user=_users,
    machine=_users,
    time=moments,
    puts=st.lists(_puts, max_size=3).map(tuple),
    deletes=st.lists(st.builds(Delete, path=paths, expect=etags), max_size=3).map(tuple),
)


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    """Any manifest that can be: names below their directories, hard links, what has no home."""
    return Manifest(
        generation=draw(SIZES),
        publish=draw(st.none() | publish_ids),
        time=draw(moments),
        predecessor=draw(st.none() | object_names),
        top=Top(mode=draw(MODES), mtime=draw(TIMES), xattrs=draw(xattrs)),
        entries=draw(trees_of_entries()),
        kept={
            kept.content.digest: kept
            for kept in draw(st.lists(_kept(), max_size=3))
            if kept.content.digest is not None
        },
        aside=draw(st.dictionaries(paths, st.none() | etags, max_size=2)),
    )


@lru_cache
def _kept() -> st.SearchStrategy[Kept]:
    was = st.lists(plain, max_size=2).map(tuple)
    return st.builds(Kept, content=contents(with_plain=False), time=moments, was=was)


@st.composite
def trees_of_entries(draw: st.DrawFn, most: int = 7) -> tuple[Entry, ...]:
    """The entries of one tree: each after its directory, hard-link groups among them."""
    directories, entries, by_ino = [Path("")], list[Entry](), dict[Inode, Entry]()
    etags_of: dict[Path, ETag | None] = {}
    for number in range(draw(st.integers(0, most))):
        holder = draw(st.sampled_from(directories))
        name = draw(names)
        path = Path(f"{holder}/{name}" if holder else name)
        if any(entry.path == path for entry in entries):
            continue
        linkable = [entry for entry in by_ino.values() if entry.kind is not Kind.DIRECTORY]
        if linkable and draw(SMALL_UNSIGNED) == 0:
            first = draw(st.sampled_from(linkable))
            entry = _like(first, path)
        else:
            entry = _fresh(draw, path, Inode((7 << 32) + number))
            by_ino[entry.ino] = entry
        if entry.kind is Kind.DIRECTORY:
            directories.append(path)
        if entry.content is not None:
            etags_of[path] = draw(st.none() | etags)
        entries.append(entry)
    return relinked(entries, etags_of)


def _like(first: Entry, path: Path) -> Entry:
    return Entry(
        path=path,
        ino=first.ino,
        kind=first.kind,
        mode=first.mode,
        mtime=first.mtime,
        xattrs=first.xattrs,
        target=first.target,
        rdev=first.rdev,
        content=first.content,
        lost=first.lost,
    )


def _fresh(draw: st.DrawFn, path: Path, ino: Inode) -> Entry:
    kind = draw(st.sampled_from([Kind.FILE, Kind.FILE, Kind.DIRECTORY, *Kind]))
    is_file = kind is Kind.FILE
    return Entry(
        path=path,
        ino=ino,
        kind=kind,
        mode=draw(MODES),
        mtime=draw(TIMES),
        xattrs=draw(xattrs),
        target=draw(names) if kind is Kind.SYMLINK else "",
        rdev=draw(SIZES) if kind in {Kind.BLOCK, Kind.CHARACTER} else 0,
        content=draw(contents(with_plain=False)) if is_file else None,
        lost=is_file and draw(st.booleans()),
    )


def named(text: str) -> ObjectName:
    """An object's name for examples."""
    return object_name(Fence(7), text)
