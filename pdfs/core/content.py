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
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NewType

from pdfs.core.ids import ObjectName, Path

Digest = NewType("Digest", bytes)
"""The 32 bytes of a BLAKE2b-256; 64 lower-case hexadecimal digits wherever it is written."""

ETag = NewType("ETag", str)
"""Names one version of an object, without quotes. Equal bytes put whole have equal ETags (MD5)."""

DIGEST_SIZE = 32
PART_SIZE = 8 << 20
MOST_PARTS = 10_000
_LIST = b"pdfs-parts"
_DIGEST = re.compile(r"[0-9a-f]{64}")
_MD5 = re.compile(r"[0-9a-f]{32}")


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


Home = Packed | Plain


@dataclass(frozen=True, slots=True, init=False)
class Content:
    """An immutable run of `size` bytes.

    A stage has a million, nearly all with one home of each kind: what these two say stands in the
    content itself, which takes 200 bytes less than a home and a tuple for each would.
    """

    size: int
    digest: Digest | None
    parts: tuple[Digest, ...]
    """A digest per part, for contents longer than one part."""
    _name: ObjectName | None
    _offset: int
    _path: Path | None
    _etag: int | str
    """Where it is an MD5, as a number: half as long as its digits."""
    _others: tuple[Home, ...]
    """Homes beyond the first of their kind."""

    def __init__(
        self,
        *,
        size: int,
        digest: Digest | None,
        parts: tuple[Digest, ...] = (),
        packed: tuple[Packed, ...] = (),
        plain: tuple[Plain, ...] = (),
    ) -> None:
        put = object.__setattr__
        put(self, "size", size)
        put(self, "digest", digest)
        put(self, "parts", parts)
        put(self, "_name", packed[0].name if packed else None)
        put(self, "_offset", packed[0].offset if packed else 0)
        put(self, "_path", plain[0].path if plain else None)
        put(self, "_etag", _shortened(plain[0].etag) if plain else 0)
        put(self, "_others", (*packed[1:], *plain[1:]))

    @property
    def packed(self) -> tuple[Packed, ...]:
        """Its homes inside contents objects."""
        if self._name is None:
            return ()
        others = (home for home in self._others if isinstance(home, Packed))
        return (Packed(self._name, self._offset), *others)

    @property
    def plain(self) -> tuple[Plain, ...]:
        """Its homes as plain objects."""
        if self._path is None:
            return ()
        others = (home for home in self._others if isinstance(home, Plain))
        return (Plain(self._path, _whole(self._etag)), *others)

    def etag_at(self, path: Path) -> ETag | None:
        """The ETag of the plain object that holds this content at `path`, if one does."""
        if self._path == path:
            return _whole(self._etag)
        for home in self._others:
            if isinstance(home, Plain) and home.path == path:
                return home.etag
        return None

    @property
    def outlives_plain(self) -> bool:
        """Whether the bytes stay readable when every plain object is replaced or deleted."""
        return self.size == 0 or self._name is not None

    def is_same(self, other: "Content") -> bool:
        """Whether both are known to be the same bytes."""
        if self.digest is not None and other.digest is not None:
            return self.digest == other.digest and self.size == other.size
        return self.size == other.size and bool(set(self.plain) & set(other.plain))

    def with_plain(self, *homes: Plain) -> "Content":
        """The same bytes, at exactly these plain homes."""
        return self.at(self.packed, homes)

    def with_packed(self, *homes: Packed) -> "Content":
        """The same bytes, inside contents objects at exactly these homes."""
        return self.at(homes, self.plain)

    def at(self, packed: tuple[Packed, ...], plain: tuple[Plain, ...]) -> "Content":
        """The same bytes, at exactly these homes."""
        return Content(
            size=self.size, digest=self.digest, parts=self.parts, packed=packed, plain=plain
        )


class SameBytes:
    """Contents, to find out whether any of them is the same as another, by `Content.is_same`.

    However many they are, each question is a few look-ups.
    """

    def __init__(self, contents: Iterable[Content] = ()) -> None:
        self._digests: set[tuple[Digest, int]] = set()
        self._homes: set[tuple[Plain, int]] = set()
        """Plain homes, with the size of what is there."""
        self._unread_homes: set[tuple[Plain, int]] = set()
        """Those of them of contents without a digest."""
        for content in contents:
            self.add(content)

    def add(self, content: Content) -> None:
        """One more."""
        homes = {(home, content.size) for home in content.plain}
        self._homes |= homes
        if content.digest is None:
            self._unread_homes |= homes
        else:
            self._digests.add((content.digest, content.size))

    def has(self, content: Content) -> bool:
        """Whether one of them is known to be the same bytes."""
        if content.digest is not None and (content.digest, content.size) in self._digests:
            return True
        homes = self._homes if content.digest is None else self._unread_homes
        return any((home, content.size) in homes for home in content.plain)


def content_fields(content: Content) -> dict[str, object]:
    """Size, digest, parts and packed homes, as every format has them.

    Its plain homes each format has in its own way.
    """
    fields: dict[str, object] = {"size": content.size}
    if content.digest is not None:
        fields["digest"] = content.digest.hex()
    if content.parts:
        fields["parts"] = [part.hex() for part in content.parts]
    if content.packed:
        fields["packed"] = [[home.name, home.offset] for home in content.packed]
    return fields


def _shortened(etag: ETag) -> int | str:
    return int(etag, 16) if _MD5.fullmatch(etag) else etag


def _whole(etag: int | str) -> ETag:
    return ETag(etag if isinstance(etag, str) else f"{etag:032x}")


def digest_of(data: bytes | memoryview) -> Digest:
    """BLAKE2b-256 of one part, or of a whole content no longer than that."""
    return Digest(hashlib.blake2b(data, digest_size=DIGEST_SIZE).digest())


def digest_of_parts(parts: tuple[Digest, ...]) -> Digest:
    """What a content of several parts is known by."""
    return Digest(hashlib.blake2b(b"".join(parts), digest_size=DIGEST_SIZE, person=_LIST).digest())


def digest_in(text: str) -> Digest:
    """The digest that is written so. Raises ValueError for anything else."""
    if _DIGEST.fullmatch(text) is None:
        raise ValueError(f"{text!r} is not a digest")
    return Digest(bytes.fromhex(text))


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
