"""What a daemon says of its session when it is asked: the fields of `pdfs status --json`."""

import os
from collections.abc import Mapping

from pdfs.core.generation import invisible_files, unpublished_of
from pdfs.core.lease import Lock, Unpublished, moment
from pdfs.core.tree import Tree
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
    tree: Tree | None,
    prefetched: Prefetch,
    trouble: str | None,
    failure: PdfsError | None,
    unreadable: Mapping[str, str],
) -> dict[str, object]:
    """The session as it is now; `tree` is None before there is one.

    `failure` is why the journal takes nothing any more; `unreadable` are files whose bytes were
    asked for and are nowhere.
    """
    owner, progress = ctx.owner, ctx.uploads.progress
    unpublished = Unpublished() if tree is None else unpublished_of(tree, ctx.is_visible)
    return {
        "schema": 1,
        "session": owner.session,
        "run": owner.run,
        "project": ctx.keys.project,
        "stage": ctx.keys.stage,
        "mountpoint": request.mountpoint,
        "pid": os.getpid(),
        "state": session.state,
        "is_mounted": session.is_serving,
        "bucket": ctx.store.name,
        "user": owner.user,
        "machine": owner.machine,
        "unpublished": _amount(unpublished),
        "lock": None if session.lock is None else _lock_fields(session.lock),
        "trouble": trouble,
        "read_only": None if failure is None else str(failure),
        "lost": None if session.lost is None else str(session.lost),
        "conflicts": session.conflicts,
        "aside": session.aside,
        "warnings": [[warned.path, warned.why] for warned in session.warnings],
        "unreadable": dict(unreadable),
        "invisible": invisible_fields(ctx, tree),
        "prefetch": {**fetch_fields(prefetched), "is_over": prefetched.is_over},
        "upload": None if progress is None else upload_fields(progress),
        "timing": dict(request.configuration.timing_overrides),
    }


def invisible_fields(ctx: StageContext, tree: Tree | None) -> dict[str, object]:
    """How many files no other tool sees, for their names, and the first of them."""
    found = [] if tree is None else invisible_files(tree, ctx.is_visible)
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
