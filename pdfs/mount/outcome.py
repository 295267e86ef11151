"""What a session came to: its exit code, and what a person has to look at, each told once.

It only looks. Who asked for a publish is told of the conflict copies that it made; the end tells of
those that nobody has heard of.
"""

from typing import NamedTuple, cast

from pdfs.core.generation import holds_work
from pdfs.core.ids import Path
from pdfs.core.notes import CameTo
from pdfs.errors import (
    ConflictsMade,
    DamageFound,
    LockLost,
    ObjectDamaged,
    PdfsError,
    UnpublishedWork,
)
from pdfs.mount.control import Result
from pdfs.mount.status import invisible_fields
from pdfs.mount.workspace import DiskWorkspace
from pdfs.session import StageSession
from pdfs.stage.context import StageContext


class Mark(NamedTuple):
    """How much there was to look at when a publish began."""

    conflicts: int
    not_removed: int


class Outcome:
    """That of one session, as of now."""

    def __init__(self, ctx: StageContext, session: StageSession, workspace: DiskWorkspace) -> None:
        self._ctx = ctx
        self._session = session
        self._workspace = workspace
        self._told: set[Path] = set()
        """What an answer to a publish has named, of conflict copies and names that stay."""

    @property
    def exit_code(self) -> int:
        """0, or that of what a person has to look at."""
        session = self._session
        if session.missing or session.incomplete or self.damage:
            return DamageFound.exit_code
        return ConflictsMade.exit_code if self._untold else 0

    @property
    def _untold(self) -> list[Path]:
        """Conflict copies that nobody who asked for a publish has heard of."""
        return self._not_told(self._session.conflicts)

    def _not_told(self, paths: list[Path]) -> list[Path]:
        return [path for path in paths if path not in self._told]

    @property
    def damage(self) -> str:
        """What was found damaged here or in the bucket, in words."""
        torn, left = self._workspace.torn, self._session.left_lock
        if torn:
            session = self._ctx.owner.session[:8]
            return f"its journal is damaged ({torn}): it is kept, see pdfs recover undo {session}"
        return "" if left is None else str(left)

    @property
    def note(self) -> CameTo:
        """The same for the session's log: who asks too late has his answer from there."""
        session = self._session
        return CameTo(
            exit_code=self.exit_code,
            is_aborted=session.is_aborted,
            missing=len(session.missing),
            damage=self.damage,
        )

    def at_the_end(self) -> dict[str, object]:
        """The fields of an answer that tell it."""
        return {
            "exit_code": self.exit_code,
            "conflicts": self._untold,
            "not_removed": self._not_told(self._session.not_removed),
            "missing": self._session.missing,
            "aside": self._session.aside,
            "incomplete": self._session.incomplete,
            "damage": self.damage,
            "invisible": self._invisible(),
        }

    def _invisible(self) -> dict[str, object]:
        return invisible_fields([] if self._session.is_aborted else self._session.invisible)

    def told_of(self, done: Result) -> Result:
        """An answer that names conflict copies or names that stay: they are not told again."""
        for told in ("conflicts", "not_removed"):
            self._told |= set(cast("list[Path]", done[told]))
        return done

    def mark(self) -> Mark:
        """To be given to `so_far` after a publish that begins now."""
        return Mark(len(self._session.conflicts), len(self._session.not_removed))

    def so_far(self, before: Mark) -> Result:
        """What came of a publish of a stage that stays mounted, and that began at `before`."""
        conflicts, missing = self._session.conflicts[before.conflicts :], self._session.missing
        code = ConflictsMade.exit_code if conflicts else 0
        return {
            "exit_code": DamageFound.exit_code if missing else code,
            "conflicts": conflicts,
            "not_removed": self._session.not_removed[before.not_removed :],
            "missing": missing,
            "aside": self._session.aside,
            "invisible": self._invisible(),
            "is_mounted": True,
        }

    def kept(self, error: LockLost | ObjectDamaged) -> PdfsError:
        """What a stage that is lost, or whose root is gone, means to who unmounts: work that
        remains here, if there is any.
        """
        work = self._workspace.work
        if work is None or not holds_work(work.tree):
            return error
        if isinstance(error, ObjectDamaged):
            kept = "what was written is kept here: pdfs recover list"
            return UnpublishedWork(error.what, remedy=f"{kept}; {error.remedy}")
        return UnpublishedWork(
            error.what, remedy=error.remedy or "everything is kept here: pdfs recover list"
        )
