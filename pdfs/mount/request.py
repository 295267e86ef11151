"""What the command line asks of the daemon, as one line of JSON on its standard input.

There are no secrets in it: credentials are found by the daemon itself.
"""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import PurePath

from pdfs.config import Configuration
from pdfs.core.ids import SessionId
from pdfs.core.timing import Timing
from pdfs.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class MountRequest:
    """One session to be carried."""

    configuration: Configuration
    project: str
    stage: str
    mountpoint: str | None
    """Absolute; None publishes a crashed session without mounting it."""
    create: bool = False
    """The project or stage may be new."""
    agreed: bool = False
    """The user answered the lock's question with yes."""
    take_over: bool = False
    crashed: SessionId | None = None
    """The session of this stage that is to be resumed."""
    allow_other: bool = False
    read_only: bool = False
    """Not a session, but a look at one generation."""
    follows: bool = False
    """And at newer ones, as they come."""
    every: float = 0.0
    """Seconds between two publishes that nobody asked for while it is mounted; 0 = none."""
    wait_lock: float = 0.0
    """Seconds for which a stage that its owner is still publishing is waited for."""


def encode_request(request: MountRequest) -> bytes:
    """One line of JSON."""
    return json.dumps(asdict(request), default=str).encode() + b"\n"


def decode_request(line: bytes) -> MountRequest:
    """The inverse of `encode_request`. Raises UsageError for anything else."""
    try:
        found = json.loads(line)
        configuration = found.pop("configuration")
        timing = Timing(**configuration.pop("timing"))
        for name in ("state", "cache", "runtime"):
            configuration[name] = PurePath(configuration[name])
        return MountRequest(configuration=Configuration(timing=timing, **configuration), **found)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        names = [field.name for field in fields(MountRequest)]
        raise UsageError(f"no mount request: {error}; its fields are {names}") from error
