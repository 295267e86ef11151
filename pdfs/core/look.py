"""A look at a whole stage: everything that root, trees, plan, listings and bytes said at one time.

What it means: `core.check`.
"""

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field

from pdfs.core.content import Content, Digest, Home, Packed, Plain
from pdfs.core.garbage import Internal, Named
from pdfs.core.ids import ObjectName, Path
from pdfs.core.keys import CONTENTS
from pdfs.core.lease import Lock
from pdfs.core.manifest import Manifest
from pdfs.core.merge import Row
from pdfs.core.plan import Plan
from pdfs.core.restore import Past
from pdfs.core.root import Root


@dataclass(frozen=True, slots=True, kw_only=True)
class Unread:
    """A tree or plan that is named and can't be read."""

    key: str
    needed: str
    why: str
    is_plan: bool = False
    """The root's plan: it can be made anew from the two trees that it lies between."""
    is_current: bool = False
    """The root's tree."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """An upload that nobody goes on with."""

    key: str
    initiated: float


@dataclass(slots=True, kw_only=True)
class Look:
    """Everything that was seen of a stage while its root did not change."""

    root: Root | None
    tree: Manifest | None
    plan: Plan | None
    named: Named
    unread: Sequence[Unread] = ()
    old_plans: Mapping[str, str] = field(default_factory=dict)
    """Plans of earlier publishes that were read, and can't be: why, by key."""
    lacking: Mapping[ObjectName, Set[Digest]] = field(default_factory=dict)
    """Contents that a contents object should have, by some tree, and by the listing has not."""
    newer: Sequence[str] = ()
    """Keys of objects of a history that the root does not continue."""
    now: float = 0.0
    """When it was taken, by the store's clock."""
    objects: Sequence[Internal] = ()
    strange: Sequence[str] = ()
    rows: Sequence[Row] = ()
    """The plain objects."""
    echoes: Mapping[Path, Content] = field(default_factory=dict)
    uploads: Sequence[Upload] = ()
    hides_uploads: bool = False
    """The bucket does not let this user list uploads."""
    wrong: Set[tuple[Home, Digest | None]] = frozenset()
    """Homes that were read, and have other bytes than those of this digest."""
    broken_root: str = ""
    """Why there is no root that can be read, where there should be one."""
    past: Past | None = None
    """What can be brought back, where there is no root or tree that can be read."""
    is_of_other_version: bool = False
    """Root or tree are whole, and not for this PDFS."""
    broken_lock: str = ""
    is_visible: Callable[[Path], bool]
    key: Callable[[Internal], str]
    lock: Lock | None = None
    """Unless it is released, or can't be read."""
    is_owner_alive: bool = False
    """Who has the lock has renewed it lately."""


@dataclass(frozen=True, slots=True)
class Homes:
    """Where a file's bytes are said to be, told apart by whether they are there."""

    good: tuple[Home, ...]
    bad: tuple[Home, ...]


class Places:
    """Which homes have what they should, by the listings and by what was read."""

    def __init__(self, look: Look) -> None:
        self._sizes = {each.name: each.size for each in look.objects if each.folder == CONTENTS}
        self._rows = {row.path: row for row in look.rows}
        self._wrong = look.wrong

    def of(self, content: Content) -> Homes:
        """The homes of a content; one that another tool has taken away counts as neither."""
        good: list[Home] = []
        bad: list[Home] = []
        for packed in content.packed:
            is_there = self._sizes.get(packed.name, -1) >= packed.offset + content.size
            is_right = is_there and (packed, content.digest) not in self._wrong
            (good if is_right else bad).append(packed)
        for plain in content.plain:
            row = self._rows.get(plain.path)
            if row is not None and row.etag == plain.etag:
                is_right = row.size == content.size and (plain, content.digest) not in self._wrong
                (good if is_right else bad).append(plain)
        return Homes(tuple(good), tuple(bad))

    def why(self, home: Home, content: Content) -> str:
        """What is the matter with a bad home."""
        match home:
            case Packed(name=name, offset=offset):
                size = self._sizes.get(name)
                if size is None:
                    return f"the contents object {name} is gone"
                if size < offset + content.size:
                    return f"the contents object {name} has only {size} bytes"
                return f"the contents object {name} has other bytes"
            case Plain(path=path):
                row = self._rows[path]
                if row.size != content.size:
                    return f"the plain object has {row.size} bytes, not {content.size}"
                return "the plain object has other bytes"
