"""The names of a generation: what each one stands for, and a million of them in little memory."""

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, overload

from pdfs.core.content import Content, ETag
from pdfs.core.ids import Inode, Path
from pdfs.core.node import NO_XATTRS, PERMISSIONS
from pdfs.core.record import Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One name in a generation. Entries of one hard-link group are equal but for their path."""

    path: Path
    ino: Inode
    kind: Kind
    mode: int
    mtime: int
    xattrs: Mapping[str, bytes] = field(default_factory=lambda: NO_XATTRS)
    target: str = ""
    rdev: int = 0
    content: Content | None = None
    """Of a file; its plain homes are those of all names of the group."""
    lost: bool = False

    @property
    def etag(self) -> ETag | None:
        """Of the plain object that holds this content at this path."""
        return None if self.content is None else self.content.etag_at(self.path)


_KINDS: Final = tuple(Kind)
_PLACES: Final = {kind: place for place, kind in enumerate(Kind)}
_MODE_BITS: Final = PERMISSIONS.bit_length()
_MODES: Final = tuple(range(PERMISSIONS + 1))
"""One object for each, not one for each entry."""

_Rare = tuple[Mapping[str, bytes], str, int, bool]
_USUAL: Final[_Rare] = (NO_XATTRS, "", 0, False)
"""xattrs, target, rdev and lost, as nearly all files have them."""


class Entries(Sequence[Entry]):
    """Entries in columns: each is made when it is asked for.

    35 bytes for each instead of 120; what they name is shared with the tree made of them. Only who
    makes it appends to one.
    """

    __slots__ = ("_contents", "_inodes", "_kinds", "_mtimes", "_paths", "_rare")

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self._paths: list[Path] = []
        self._inodes: list[Inode] = []
        self._kinds = array("H")
        """Kind and mode: the place of the one above the 12 bits of the other."""
        self._mtimes: list[int] = []
        self._contents: list[Content | None] = []
        self._rare: dict[int, _Rare] = {}
        for entry in entries:
            self.append(entry)

    def append(self, entry: Entry) -> None:
        """One more."""
        rare = (entry.xattrs, entry.target, entry.rdev, entry.lost)
        if rare != _USUAL:
            self._rare[len(self._paths)] = rare
        self._paths.append(entry.path)
        self._inodes.append(entry.ino)
        self._kinds.append(_PLACES[entry.kind] << _MODE_BITS | entry.mode)
        self._mtimes.append(entry.mtime)
        self._contents.append(entry.content)

    def __len__(self) -> int:
        return len(self._paths)

    def __iter__(self) -> Iterator[Entry]:
        return map(self._at, range(len(self._paths)))

    @overload
    def __getitem__(self, index: int) -> Entry: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Entry]: ...
    def __getitem__(self, index: int | slice) -> Entry | Sequence[Entry]:
        places = range(len(self._paths))[index]
        return self._at(places) if isinstance(places, int) else Entries(map(self._at, places))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(map(Entry.__eq__, self, other))

    __hash__ = None  # type: ignore[assignment]  # appended to, compared by value

    def _at(self, index: int) -> Entry:
        xattrs, target, rdev, lost = self._rare.get(index, _USUAL)
        place, mode = divmod(self._kinds[index], 1 << _MODE_BITS)
        return Entry(
            path=self._paths[index],
            ino=self._inodes[index],
            kind=_KINDS[place],
            mode=_MODES[mode],
            mtime=self._mtimes[index],
            xattrs=xattrs,
            target=target,
            rdev=rdev,
            content=self._contents[index],
            lost=lost,
        )
