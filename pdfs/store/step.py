"""Which step of a protocol a request belongs to.

The step is set around the calls of one step and read by whoever looks at single requests: the log,
the error messages, and the simulation, whose faults are counted by step.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from enum import StrEnum


class Step(StrEnum):
    """Every step of the protocols that sends a request to the store."""

    START_READ_LOCK = "start: read lock"
    START_READ_ROOT = "start: read root"
    START_TAKE_LOCK = "start: take lock"
    START_WRITE_ROOT = "start: write root"
    TAKE_OVER_LOCK = "take over: take lock"
    TAKE_OVER_ROOT = "take over: write root"
    LOAD_TREE = "load: tree"
    LOAD_LISTING = "load: listing"
    LOAD_STRANGER = "load: look at a changed object"
    FETCH = "fetch: content"
    RENEW = "lock: renew"
    STAGE_CONTENT = "publish: stage contents"
    COMMIT_TREE = "publish: write tree"
    COMMIT_PLAN = "publish: write plan"
    COMMIT_ROOT = "publish: commit root"
    APPLY_READ = "apply: read plan"
    APPLY_CHECK_ROOT = "apply: check root"
    APPLY_PUT = "apply: put"
    APPLY_JUDGE = "apply: look at an object"
    APPLY_VERIFY = "apply: read back"
    APPLY_CONFLICT = "apply: put conflict copy"
    APPLY_DELETE = "apply: delete"
    SETTLE_TREE = "settle: write tree"
    SETTLE_ROOT = "settle: write root"
    END_ROOT = "end: write root"
    COLLECT_LIST = "collect: list"
    COLLECT_READ = "collect: read what is named"
    COLLECT_CHECK_ROOT = "collect: check root"
    COLLECT_DELETE = "collect: delete"
    RELEASE_MARK = "release: mark lock"
    RELEASE_DELETE = "release: delete lock"
    RESTORE_ROOT = "restore: write root"
    READER_ROOT = "reader: read root"
    READER_TREE = "reader: read tree"


_current: ContextVar[Step | None] = ContextVar("pdfs_step", default=None)


@contextmanager
def at(step: Step) -> Iterator[None]:
    """Requests within this context, child tasks included, belong to `step`."""
    token = _current.set(step)
    try:
        yield
    finally:
        _current.reset(token)


def current_step() -> Step | None:
    """The innermost step, or None outside any."""
    return _current.get()
