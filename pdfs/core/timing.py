"""Every interval that a protocol rests on, in seconds, as one value that is passed in."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

from pdfs.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """The intervals of the protocols; the defaults are the product's.

    `delete_valid` must stay below `foreign_plan_wait`: who finds another process's plan waits so
    long that no unconditional DELETE of that process can still be carried out.
    """

    renewal: float = 60.0
    """Between two renewals of the stage lock."""
    wake: float = 5.0
    """Between two looks whether the machine was suspended: the lock is then looked at."""
    expiry: float = 12 * 3600.0
    """From a renewal to the instant from which anybody may take the lock."""
    same_user_elsewhere: float = 600.0
    """Age from which the same user may take the lock from another machine, after a question."""
    foreign_plan_wait: float = 60.0
    """Before the first step of a plan that another process committed."""
    delete_valid: float = 30.0
    """How long an unconditional DELETE can be carried out after it was signed."""
    kept_for: float = 7 * 86400.0
    """How long what a publish replaced or removed stays findable by its digest, and a generation
    readable that is no longer the current one."""
    collect: float = 10.0
    """Longest time that the end of a session takes to let garbage go."""
    flush: float = 1.0
    """Between two background fdatasyncs of the journal."""
    read: float = 55.0
    """Longest time that a program's read waits for the bucket; then it gets EIO."""
    answer: float = 30.0
    """Longest wait for one answer of the store; then its outcome is unknown."""
    follow: float = 10.0
    """Between two looks of a read-only mount that follows at the root."""
    slowest: float = 32768.0
    """Bytes per second below which a link counts as dead: what is long in transit gets longer."""
    patience: float = 60.0
    """How long one request is sent again before its caller is told that the store is away."""
    backoff: float = 0.5
    """First wait between two tries; doubled each time."""
    backoff_limit: float = 30.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not 0 < value < float("inf"):
                raise UsageError(f"timing {field.name!r} is {value!r}; it must be above 0")
        if self.delete_valid >= self.foreign_plan_wait:
            raise UsageError("timing 'delete_valid' must be below 'foreign_plan_wait'")
        if self.renewal >= self.expiry:
            raise UsageError("timing 'renewal' must be below 'expiry'")

    def answer_to(self, size: int) -> float:
        """Seconds to wait for the answer to a request that carries `size` bytes either way."""
        return self.answer + size / self.slowest

    def wait_before_try(self, number: int) -> float:
        """Seconds to wait before try `number` (the first retry is 1), before any jitter."""
        return float(min(self.backoff * 2.0 ** min(number - 1, 60), self.backoff_limit))


def override(timing: Timing, values: Mapping[str, object]) -> Timing:
    """`timing` with some intervals replaced. Raises UsageError for unknown names, non-numbers."""
    known = {field.name for field in fields(timing)}
    chosen: dict[str, float] = {}
    for name, value in values.items():
        if name not in known:
            raise UsageError(f"unknown timing {name!r}", remedy=f"known are {sorted(known)}")
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise UsageError(f"timing {name!r} is {value!r}; it must be a number of seconds")
        try:
            chosen[name] = float(value)
        except OverflowError:
            raise UsageError(f"timing {name!r} is too large") from None
    return replace(timing, **chosen)
