"""A manifest: the tree of one generation, immutable once written.

`trees/{fence}-{id}.json.gz`, a gzip of one JSON object:

    schema        2
    generation    whole number; 0 only in memory, for a bucket that PDFS has never written
    publish       id of the publish that made it, or ""
    time          seconds since 1970 by the publishing machine, for people
    predecessor   name of the manifest before it, or null
    top           {mode, mtime, xattrs} of the stage's top directory
    entries       a list, each name after its directory:
        path      stage-relative
        ino       stable inode number; names that share one are a hard-link group, and then only
                  the first of them has the fields below; the others have path, ino and etag
        kind      file, directory, symlink, fifo, socket, character, block
        mode      permission bits
        mtime     ns since 1970
        xattrs    {name: base64}
        target    of a symlink
        rdev      of a device
        size, digest, parts, packed [[contents object, offset]]   of a file
        etag      of the plain object that holds exactly this content at this path; absent while
                  there is none: not yet applied, set aside, or a name that no key can hold
        lost      true where the content was found at none of its homes
    kept          {digest: {size, packed, time}}: contents that publishes and listings of the last
                  days replaced or removed; `was` [[path, etag]] where a generation before knows one
                  by its plain object alone, since nobody had read it: then also of what is there
    aside         {path: ETag or ""}: steps of its publish that were set aside by a user's word. The
                  plain object there, if any, is an older one; the next publish tries again
"""

import base64
import binascii
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from pdfs.core import document
from pdfs.core.content import (
    Content,
    Digest,
    ETag,
    Packed,
    Plain,
    content_fields,
    digest_in,
)
from pdfs.core.document import Malformed, Reader
from pdfs.core.entries import Entries, Entry
from pdfs.core.ids import TOP, Inode, ObjectName, Path, PublishId, is_object_name
from pdfs.core.keys import parent, why_no_file
from pdfs.core.node import NO_XATTRS, PERMISSIONS
from pdfs.core.record import Kind

SCHEMA = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A content that no name holds any more, and when it was replaced or removed."""

    content: Content
    time: float
    was: tuple[Plain, ...] = ()
    """Plain homes that it had before anybody knew its digest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Top:
    """Attributes of the stage's top directory."""

    mode: int = 0o755
    mtime: int = 0
    xattrs: Mapping[str, bytes] = field(default_factory=lambda: NO_XATTRS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """The tree of one generation."""

    generation: int
    publish: PublishId | None
    time: float
    predecessor: ObjectName | None
    top: Top
    entries: Sequence[Entry]
    """Each name after its directory."""
    kept: Mapping[Digest, Kept] = field(default_factory=lambda: MappingProxyType({}))
    aside: Mapping[Path, ETag | None] = field(default_factory=lambda: MappingProxyType({}))
    """Steps that were set aside, and the plain object that each was to replace or delete."""

    def by_path(self) -> dict[Path, Entry]:
        """The entries by path."""
        return {entry.path: entry for entry in self.entries}

    def known(self) -> dict[Path, Content]:
        """What the plain objects hold that this generation answers for.

        Of one that a step set aside was to replace or delete, only the ETag is known: an older
        generation's `kept` has its bytes.
        """
        known = {
            entry.path: entry.content
            for entry in self.entries
            if entry.content is not None and entry.etag is not None
        }
        for path, etag in self.aside.items():
            if etag is not None:
                known[path] = Content(size=0, digest=None, plain=(Plain(path, etag),))
        return known

    def contents(self) -> Iterator[Content]:
        """Every content that it names, what was kept included."""
        yield from (entry.content for entry in self.entries if entry.content is not None)
        yield from (kept.content for kept in self.kept.values())

    def homes_of(self, digest: Digest) -> Content | None:
        """A content of this digest with homes that this generation knows, if it knows any."""
        for entry in self.entries:
            content = entry.content
            if content is not None and content.digest == digest:
                return content
        kept = self.kept.get(digest)
        return None if kept is None else kept.content

    def homes_of_unread(self, content: Content) -> Content | None:
        """The same for a content without a digest, which is known by its plain homes."""
        return next(
            (kept.content for kept in self.kept.values() if set(kept.was) & set(content.plain)),
            None,
        )


def never_published(top: Top | None = None) -> Manifest:
    """Generation 0: what a stage is before PDFS wrote it."""
    return Manifest(
        generation=0, publish=None, time=0.0, predecessor=None, top=top or Top(), entries=()
    )


def in_columns(manifest: Manifest) -> Manifest:
    """The same one, to be kept for long."""
    return replace(manifest, entries=Entries(manifest.entries))


def relinked(entries: Iterable[Entry], etags: Mapping[Path, ETag | None]) -> tuple[Entry, ...]:
    """Entries whose plain homes are those that `etags` gives; names it lacks keep their own."""
    listed = list(entries)
    groups: dict[Inode, list[Plain]] = {}
    for entry in listed:
        etag = etags.get(entry.path, entry.etag)
        if etag is not None:
            groups.setdefault(entry.ino, []).append(Plain(entry.path, etag))
    contents: dict[Inode, Content] = {}
    for entry in listed:
        if entry.content is not None and entry.ino not in contents:
            homes = tuple(groups.get(entry.ino, ()))
            is_so = entry.content.plain == homes
            contents[entry.ino] = entry.content if is_so else entry.content.with_plain(*homes)
    return tuple(
        entry
        if entry.content is None or entry.content is contents[entry.ino]
        else replace(entry, content=contents[entry.ino])
        for entry in listed
    )


# --- bytes ------------------------------------------------------------------------------------


def encode(manifest: Manifest) -> bytes:
    """The bytes of a manifest; equal manifests give equal bytes."""
    seen: set[Inode] = set()
    return document.pack(
        {
            "schema": SCHEMA,
            "generation": manifest.generation,
            "publish": manifest.publish or "",
            "time": manifest.time,
            "predecessor": manifest.predecessor,
            "top": _top_out(manifest.top),
            "entries": (_entry_out(entry, seen) for entry in manifest.entries),
            "kept": {
                digest.hex(): _kept_out(kept) for digest, kept in sorted(manifest.kept.items())
            },
            "aside": {path: etag or "" for path, etag in sorted(manifest.aside.items())},
        }
    )


def _kept_out(kept: Kept) -> dict[str, object]:
    out = {**content_fields(kept.content), "time": kept.time}
    return {**out, "was": [[home.path, home.etag] for home in kept.was]} if kept.was else out


def _top_out(top: Top) -> dict[str, object]:
    return {"mode": top.mode, "mtime": top.mtime, "xattrs": _xattrs_out(top.xattrs)}


def _entry_out(entry: Entry, seen: set[Inode]) -> dict[str, object]:
    out: dict[str, object] = {"path": entry.path, "ino": entry.ino}
    if entry.ino not in seen:
        seen.add(entry.ino)
        out |= {"kind": entry.kind, "mode": entry.mode, "mtime": entry.mtime}
        if entry.xattrs:
            out["xattrs"] = _xattrs_out(entry.xattrs)
        if entry.target:
            out["target"] = entry.target
        if entry.rdev:
            out["rdev"] = entry.rdev
        if entry.content is not None:
            out |= content_fields(entry.content)
        if entry.lost:
            out["lost"] = True
    if entry.etag is not None:
        out["etag"] = entry.etag
    return out


def _xattrs_out(xattrs: Mapping[str, bytes]) -> dict[str, str]:
    return {name: base64.b64encode(value).decode("ascii") for name, value in sorted(xattrs.items())}


def decode(key: str, body: bytes) -> Manifest:
    """The manifest in `body`. Raises ObjectDamaged, naming `key`, for anything else."""
    entries = _Entries()
    reader = document.unpack(key, body, schema=SCHEMA, taken={"entries": entries.take})
    try:
        for item in reader.items("entries"):  # where they stand before the schema
            entries.take(item)
        return _manifest_in(reader, entries)
    except Malformed as error:
        raise document.damaged(key, error) from error


def _manifest_in(reader: Reader, entries: "_Entries") -> Manifest:
    top = reader.child("top")
    return Manifest(
        generation=reader.whole("generation"),
        publish=PublishId(reader.object_name("publish")) if reader.text("publish") else None,
        time=reader.number("time"),
        predecessor=reader.object_name("predecessor") if reader.has("predecessor") else None,
        top=Top(mode=_mode(top), mtime=top.time("mtime"), xattrs=_xattrs_in(top)),
        entries=entries.linked(),
        kept=dict(_kept_in(*item) for item in reader.mapping("kept").items()),
        aside=_aside_in(reader.mapping("aside")),
    )


def _aside_in(found: Mapping[str, object]) -> dict[Path, ETag | None]:
    aside: dict[Path, ETag | None] = {}
    for path, etag in found.items():
        if not isinstance(etag, str) or why_no_file(path) is not None:
            raise Malformed(f"'aside' names {path!r} with {etag!r}")
        aside[Path(path)] = ETag(etag) if etag else None
    return aside


def _kept_in(name: str, value: object) -> tuple[Digest, Kept]:
    digest, reader = _digest(name), Reader(value)
    content = content_in(reader)
    if content.digest != digest:
        raise Malformed(f"'kept' names {name} but holds another content")
    was = tuple(Plain(Path(path), ETag(etag)) for path, etag in reader.text_pairs("was"))
    return digest, Kept(content=content, time=reader.number("time"), was=was)


class _Entries:
    """The entries of a manifest, as they come."""

    def __init__(self) -> None:
        self._entries = Entries()
        self._firsts: dict[Inode, int] = {}
        """Where the first name of each stands."""
        self._directories: set[Path] = {Path("")}
        self._paths: set[Path] = set()
        self._etags: dict[Path, ETag | None] = {}
        """Of names of a file that has others before."""

    def take(self, item: object) -> None:
        """One more. Raises Malformed."""
        reader = Reader(item)
        entry = self._entry_in(reader)
        if entry.path in self._paths or parent(entry.path) not in self._directories:
            raise Malformed(f"{entry.path!r} stands twice, or before its directory")
        self._paths.add(entry.path)
        if entry.kind is Kind.DIRECTORY:
            self._directories.add(entry.path)
        if self._firsts.setdefault(entry.ino, len(self._entries)) < len(self._entries):
            self._etags[entry.path] = _etag_in(reader)
        self._entries.append(entry)

    def linked(self) -> Entries:
        """All of them, each file with the plain homes of all its names."""
        if len(self._firsts) == len(self._entries):
            return self._entries  # no hard links
        return Entries(relinked(self._entries, self._etags))

    def _entry_in(self, reader: Reader) -> Entry:
        path, ino = Path(reader.text("path")), Inode(reader.whole("ino", least=TOP + 1))
        fault = why_no_file(path)
        if fault is not None:
            raise Malformed(f"{path!r} can't be a path: {fault}")
        if ino not in self._firsts:
            return _first_in(reader, path, ino)
        first = self._entries[self._firsts[ino]]
        if first.kind is Kind.DIRECTORY or reader.has("kind"):
            raise Malformed(f"inode {ino} stands twice")
        return replace(first, path=path)


def _first_in(reader: Reader, path: Path, ino: Inode) -> Entry:
    try:
        kind = Kind(reader.text("kind"))
    except ValueError as error:
        raise Malformed(str(error)) from error
    return Entry(
        path=path,
        ino=ino,
        kind=kind,
        mode=_mode(reader),
        mtime=reader.time("mtime"),
        xattrs=_xattrs_in(reader),
        target=_target_in(reader),
        rdev=reader.whole("rdev", 0),
        content=_placed_in(reader, path) if kind is Kind.FILE else None,
        lost=reader.flag("lost"),
    )


def _placed_in(reader: Reader, path: Path) -> Content:
    """A file's content with its plain home at `path`, if it has one."""
    content, etag = content_in(reader), _etag_in(reader)
    return content if etag is None else content.with_plain(Plain(path, etag))


def _etag_in(reader: Reader) -> ETag | None:
    return ETag(reader.text("etag")) if reader.has("etag") else None


def _target_in(reader: Reader) -> str:
    target = reader.text("target", "")
    try:
        target.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise Malformed("'target' contains half a character") from error
    return target


def _mode(reader: Reader) -> int:
    mode = reader.whole("mode")
    if mode > PERMISSIONS:
        raise Malformed(f"mode {mode:o} is more than permission bits")
    return mode


def content_in(reader: Reader) -> Content:
    """The inverse of `content_fields`. Raises Malformed."""
    return Content(
        size=reader.whole("size"),
        digest=_digest(reader.text("digest")) if reader.has("digest") else None,
        parts=tuple(_digest(part) for part in reader.texts("parts")),
        packed=tuple(Packed(_object_name(name), at) for name, at in reader.pairs("packed")),
    )


def _digest(text: str) -> Digest:
    try:
        return digest_in(text)
    except ValueError as error:
        raise Malformed(str(error)) from error


def _object_name(text: str) -> ObjectName:
    if not is_object_name(text):
        raise Malformed(f"{text!r} is not the name of an object")
    return ObjectName(sys.intern(text))  # thousands of contents lie in one object


def _xattrs_in(reader: Reader) -> Mapping[str, bytes]:
    found = {}
    for name, value in reader.mapping("xattrs").items():
        try:
            found[name] = base64.b64decode(value, validate=True)
        except (TypeError, ValueError, binascii.Error) as error:
            raise Malformed(f"attribute {name!r} is not base64") from error
    return found
