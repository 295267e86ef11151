"""Sessions whose daemon is dead: what their journals hold."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from pdfs.cli.sessions import LocalSession, state_of
from pdfs.cli.words import printable
from pdfs.config import Configuration
from pdfs.core.generation import (
    changed_files,
    removed_files,
    renamed_files,
    unpublished_of,
)
from pdfs.core.ids import Path
from pdfs.core.keys import StageKeys
from pdfs.core.moments import span
from pdfs.core.operation import Operation
from pdfs.disk import OsDisk
from pdfs.local.recovery import Recovered, recover

_MOST_KEY_BYTES = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """What a crashed session has that is not in the bucket, as far as its journal says."""

    files: int = 0
    bytes: int = 0
    changed: tuple[Path, ...] = ()
    """Files with bytes that are in the journal alone."""
    renamed: Mapping[Path, Path] = field(default_factory=dict)
    """New names of files whose bytes are unchanged, and the old ones."""
    removed: tuple[Path, ...] = ()
    edits: int = 0
    """Operations since the last publish, also those that concern no file's bytes."""
    last: Operation | None = None
    """What a program did last, where the journal still says it."""
    damage: str = ""
    """What is wrong with the journal, and what was lost by that; empty for a sound one."""
    torn: str = ""
    """What is lost of the journal's end, where more than the last operation is; no damage."""


def look_at(configuration: Configuration, session: LocalSession) -> Left:
    """Replay a session that no process has; changes nothing. Raises LockError, DamageFound."""
    with (
        state_of(configuration) as state,
        state.looked_at(session.session) as directory,
    ):
        recovered = recover(OsDisk(), directory)
    return Left() if recovered is None else _left(session, recovered)


def last_words(left: Left) -> str:
    """`written drawings/a.dxf, 5 min ago`; empty where it is not known."""
    if left.last is None:
        return ""
    what, path = left.last.what, left.last.path or "what has no name any more"
    return printable(f"{what}: {path}, {span(time.time() - left.last.time)} ago")


def _left(session: LocalSession, recovered: Recovered) -> Left:
    tree = recovered.tree

    def is_visible(path: Path) -> bool:
        if not session.project:
            return True
        keys = StageKeys(session.project, session.stage)
        return keys.why_invisible(path, _MOST_KEY_BYTES) is None

    unpublished, renamed = unpublished_of(tree, is_visible), renamed_files(tree)
    return Left(
        files=unpublished.files,
        bytes=unpublished.bytes,
        changed=tuple(changed_files(tree)),
        renamed=renamed,
        removed=tuple(removed_files(tree, renamed.values())),
        edits=tree.edits - tree.published_edits,
        last=recovered.last,
        damage=recovered.damage,
        torn=recovered.torn,
    )
