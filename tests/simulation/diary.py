"""What a simulated user did in one session, written down by himself, outside the product.

The diary changes in the same step as the journal takes the record: an operation is in both or in
neither, however the process dies.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from pdfs.core.ids import Inode, Path, SessionId


@dataclass(slots=True)
class Diary:
    """The acknowledged operations of one session, as they stand."""

    session: SessionId
    now: Callable[[], float] = float
    """The bucket's clock."""
    written: set[bytes] = field(default_factory=set)
    """What any file was ever made to hold, by whomever: all that a reader may be served."""
    mine: dict[Path, bytes] = field(default_factory=dict)
    """Files that this session wrote or renamed, and what they hold."""
    names: dict[Inode, Path] = field(default_factory=dict)
    """Under which name each of them was written last."""
    deleted: set[Path] = field(default_factory=set)
    touched: dict[Path, float] = field(default_factory=dict)
    """Every name that was written, renamed or removed, and when it was last."""
    log: list[tuple[Path, float]] = field(default_factory=list)
    """The same, each time that it was."""
    last: dict[Path, int] = field(default_factory=dict)
    """The number of the last operation on each of them."""
    served: set[str] = field(default_factory=set)
    """ETags of the plain objects whose files the user read, changed or removed."""
    own: set[bytes] = field(default_factory=set)
    """Contents of which the user wrote every byte himself."""
    operations: int = 0

    def wrote(self, path: Path, data: bytes, ino: Inode) -> None:
        self._forget(ino)
        self.mine[path] = data
        self.names[ino] = path
        self.written.add(data)
        self.deleted.discard(path)
        self._touch(path)

    def removed(self, path: Path, ino: Inode) -> None:
        self._forget(ino)
        self.mine.pop(path, None)
        self.deleted.add(path)
        self._touch(path)

    def _forget(self, ino: Inode) -> None:
        """What this file held counts no more; it may have become a conflict copy meanwhile."""
        self.mine.pop(self.names.pop(ino, Path("")), None)

    def touched_since(self, time: float) -> set[Path]:
        return {path for path, last in self.touched.items() if last >= time}

    def _touch(self, path: Path) -> None:
        self.touched[path] = self.now()
        self.log.append((path, self.touched[path]))
        self.operations += 1
        self.last[path] = self.operations

    def untouched_since(self, operation: int) -> "Saved":
        """What a publish must have brought in that began after that operation, and is over."""
        return Saved(
            mine={path: data for path, data in self.mine.items() if self.last[path] <= operation},
            deleted={path for path in self.deleted if self.last[path] <= operation},
        )


@dataclass(frozen=True, slots=True)
class Saved:
    """What a user has been told is in the bucket."""

    mine: dict[Path, bytes]
    deleted: set[Path]
