"""How far a session's bytes are on their way, as a value that can be shown and sent."""

from dataclasses import dataclass
from enum import StrEnum

from pdfs.core.ids import Path


class Phase(StrEnum):
    """What is being done with contents."""

    UPLOAD = "upload"
    """Changed contents get homes that no plan touches."""
    WAIT = "wait"
    """A publish that another process began is left alone for a minute, before it is finished."""
    PUBLISH = "publish"
    """The plain objects become what the committed generation says."""
    COMPLETE = "complete"
    """What a session that is given up still needs of the bucket is brought here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """One look at a phase. Files and bytes count what is done; of_files and of_bytes, all of it."""

    phase: Phase
    files: int = 0
    of_files: int = 0
    bytes: int = 0
    of_bytes: int = 0
    path: Path = Path("")
    """A file that is under way; empty between two."""
    retries: int = 0
    """Requests that the bucket did not answer since the first phase began, or answered with an
    error."""
    trouble: str = ""
    """The last such error; empty once something has succeeded after it."""
    seconds_left: int | None = None
    """Until this phase is over, as far as that can be judged; None where it can't."""

    @property
    def left(self) -> int:
        """Bytes that are still to be moved in this phase."""
        return max(0, self.of_bytes - self.bytes)
