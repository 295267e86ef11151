"""What a file holds, and where in the bucket it can be read.

A *content* is an immutable run of bytes. Up to one part long it is known by the BLAKE2b-256 of its
bytes; longer ones are cut into parts of equal size (8 MiB, doubled until at most 10,000 parts, the
last one shorter) with a digest each, and known by the digest of the concatenated part digests, so
that a range can be checked without the rest. A content that only another tool has written yet has
no digest until somebody read it; it is known by key and ETag.

A *home* is a place where the bytes can be read: inside a contents object (`Packed`), or as the
plain object of a path at one ETag (`Plain`).
"""

import hashlib
import re
from dataclasses import dataclass, replace
from typing import NewType

from pdfs.core.ids import ObjectName, Path

Digest = NewType("Digest", str)
"""64 lower-case hexadecimal digits of a BLAKE2b-256."""

ETag = NewType("ETag", str)
"""Names one version of an object, without quotes. Equal bytes put whole have equal ETags (MD5)."""

PART_SIZE = 8 << 20
MOST_PARTS = 10_000
_LIST = b"pdfs-parts"
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Packed:
    """Bytes `offset` … `offset + size` of a contents object."""

    name: ObjectName
    offset: int


@dataclass(frozen=True, slots=True)
class Plain:
    """The plain object of `path`, as long as it has this ETag."""

    path: Path
    etag: ETag


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """An immutable run of `size` bytes."""

    size: int
    digest: Digest | None
    parts: tuple[Digest, ...] = ()
    """A digest per part, for contents longer than one part."""
    packed: tuple[Packed, ...] = ()
    plain: tuple[Plain, ...] = ()

    def etag_at(self, path: Path) -> ETag | None:
        """The ETag of the plain object that holds this content at `path`, if one does."""
        for home in self.plain:  # in this form, it takes half as long as a generator
            if home.path == path:
                return home.etag
        return None

    @property
    def outlives_plain(self) -> bool:
        """Whether the bytes stay readable when every plain object is replaced or deleted."""
        return self.size == 0 or bool(self.packed)

    def is_same(self, other: "Content") -> bool:
        """Whether both are known to be the same bytes."""
        if self.digest is not None and other.digest is not None:
            return self.digest == other.digest and self.size == other.size
        return self.size == other.size and bool(set(self.plain) & set(other.plain))

    def with_plain(self, *homes: Plain) -> "Content":
        """The same bytes, at exactly these plain homes."""
        return replace(self, plain=homes)

    def without_packed(self) -> "Content":
        """The same bytes, at its plain homes alone."""
        return replace(self, packed=())


def digest_of(data: bytes | memoryview) -> Digest:
    """BLAKE2b-256 of one part, or of a whole content no longer than that."""
    return Digest(hashlib.blake2b(data, digest_size=32).hexdigest())


def digest_of_parts(parts: tuple[Digest, ...]) -> Digest:
    """What a content of several parts is known by."""
    joined = bytes.fromhex("".join(parts))
    return Digest(hashlib.blake2b(joined, digest_size=32, person=_LIST).hexdigest())


def is_digest(text: str) -> bool:
    """Whether `text` can be a digest: what is not must never become the name of a file."""
    return _DIGEST.fullmatch(text) is not None


EMPTY = Content(size=0, digest=digest_of(b""))


def part_size(size: int, smallest: int = PART_SIZE) -> int:
    """The part length of the grid that a content of `size` bytes is cut by."""
    part = smallest
    while size > part * MOST_PARTS:
        part *= 2
    return part


def part_spans(size: int, smallest: int = PART_SIZE) -> list[tuple[int, int]]:
    """(start, stop) of each part of a content of `size` bytes, in order; none for no bytes."""
    part = part_size(size, smallest)
    return [(start, min(start + part, size)) for start in range(0, size, part)]


def content_of(data: bytes, *, smallest_part: int = PART_SIZE) -> Content:
    """The content of these bytes, with no home yet."""
    spans = part_spans(len(data), smallest_part)
    view = memoryview(data)
    digests = tuple(digest_of(view[start:stop]) for start, stop in spans)
    return described(len(data), digests)


def described(size: int, digests: tuple[Digest, ...]) -> Content:
    """The content of `size` bytes whose parts have these digests, with no home yet."""
    if not digests:
        return EMPTY
    if len(digests) == 1:
        return Content(size=size, digest=digests[0])
    return Content(size=size, digest=digest_of_parts(digests), parts=digests)
