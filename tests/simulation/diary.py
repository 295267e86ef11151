"""What a simulated user did in one session, written down by himself, outside the product.

The diary changes in the same step as the journal takes the record: an operation is in both or in
neither, however the process dies.
"""

from dataclasses import dataclass, field

from pdfs.core.ids import Path, SessionId


@dataclass(slots=True)
class Diary:
    """The acknowledged operations of one session, as they stand."""

    session: SessionId
    mine: dict[Path, bytes] = field(default_factory=dict)
    """Files that this session wrote or renamed, and what they hold."""
    deleted: set[Path] = field(default_factory=set)
    touched: set[Path] = field(default_factory=set)
    """Every name that was written, renamed or removed at any time."""
    served: set[str] = field(default_factory=set)
    """ETags of plain objects that the user was served."""
    operations: int = 0

    def wrote(self, path: Path, data: bytes) -> None:
        self.mine[path] = data
        self.deleted.discard(path)
        self.touched.add(path)
        self.operations += 1

    def removed(self, path: Path) -> None:
        self.mine.pop(path, None)
        self.deleted.add(path)
        self.touched.add(path)
        self.operations += 1
