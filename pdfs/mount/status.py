"""What a daemon says of its session when it is asked: the fields of `pdfs status --json`."""

import os
from collections.abc import Mapping, Sequence
from typing import Protocol

from pdfs.core.ids import Path
from pdfs.core.lease import Lock, Unpublished, moment
from pdfs.core.merge import Warned
from pdfs.core.states import State
from pdfs.errors import PdfsError
from pdfs.mount.progress import fetch_fields, upload_fields
from pdfs.mount.request import MountRequest
from pdfs.session import StageSession
from pdfs.stage.contents import Prefetch
from pdfs.stage.context import StageContext

_LISTED = 100
"""So many names that other tools can't see are sent; the rest is counted."""


def status_of(
    request: MountRequest,
    ctx: StageContext,
    session: StageSession,
    prefetched: Prefetch,
    trouble: str | None,
    failure: PdfsError | None,
    damage: str,
    unreadable: Mapping[str, str],
) -> dict[str, object]:
    """The session as it is now.

    `failure` is why the journal takes nothing any more; `damage` is what was found of an earlier
    run or in the bucket, empty for nothing; `unreadable` are files whose bytes were asked for and
    are nowhere.
    """
    progress = None if session.state is State.ACTIVE else ctx.uploads.progress
    return {
        **mount_fields(request, ctx, session, prefetched),
        "unpublished": _amount(session.unpublished),
        "every": request.every,
        "lock": None if session.lock is None else _lock_fields(session.lock),
        "trouble": trouble,
        "read_only": None if failure is None else str(failure),
        "damage": damage or None,
        "lost": None if session.lost is None else str(session.lost),
        "conflicts": session.conflicts,
        "not_removed": session.not_removed,
        "aside": session.aside,
        "refused": session.refused,
        "unreadable": dict(unreadable),
        "invisible": invisible_fields(session.invisible),
        "upload": None if progress is None else upload_fields(progress),
    }


class Life(Protocol):
    """What a session and a reader have in common."""

    @property
    def state(self) -> State: ...
    @property
    def is_serving(self) -> bool: ...
    @property
    def warnings(self) -> Sequence[Warned]: ...


def mount_fields(
    request: MountRequest, ctx: StageContext, life: Life, prefetched: Prefetch
) -> dict[str, object]:
    """What is told of every mount, whether it is edited or only read."""
    owner = ctx.owner
    return {
        "schema": 1,
        "session": owner.session,
        "run": owner.run,
        "project": ctx.keys.project,
        "stage": ctx.keys.stage,
        "mountpoint": request.mountpoint,
        "pid": os.getpid(),
        "state": life.state,
        "is_mounted": life.is_serving,
        "bucket": ctx.store.name,
        "user": owner.user,
        "machine": owner.machine,
        "warnings": [[warned.path, warned.why] for warned in life.warnings],
        "prefetch": {**fetch_fields(prefetched), "is_over": prefetched.is_over},
        "timing": dict(request.configuration.timing_overrides),
    }


def invisible_fields(found: Sequence[Path]) -> dict[str, object]:
    """How many files no other tool sees, for their names, and the first of them."""
    return {"files": len(found), "paths": found[:_LISTED]}


def unended_fields(session: StageSession) -> list[dict[str, object]]:
    """Whose sessions of this stage have not ended, and what is known to wait there."""
    return [
        {
            "session": entry.session,
            "user": entry.user,
            "machine": entry.machine,
            **_amount(entry.unpublished),
        }
        for entry in session.unended
    ]


def _lock_fields(lock: Lock) -> dict[str, object]:
    return {
        "user": lock.user,
        "machine": lock.machine,
        "since": moment(lock.since),
        "renewed": moment(lock.renewed),
        "expires": moment(lock.expires),
        "state": lock.state,
        "fence": lock.fence,
        "pending": _amount(lock.pending),
    }


def _amount(amount: Unpublished) -> dict[str, int]:
    return {"files": amount.files, "bytes": amount.bytes}
