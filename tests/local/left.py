"""Sessions that crashed: a state directory with a journal in it, made without a mount."""

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import PurePath

import trio

from pdfs.core.ids import Fence, SessionId
from pdfs.core.tree import new_tree
from pdfs.disk import OsDisk
from pdfs.fs.filesystem import StageFilesystem
from pdfs.local.state import StateDirectory
from pdfs.mount.workspace import DiskWorkspace
from tests.fs.process import Process
from tests.local.journals import HEADER


def leave_crashed(
    state_path: PurePath,
    description: Mapping[str, object],
    session: SessionId,
    files: Mapping[str, bytes],
) -> None:
    """A session that wrote and synced `files`, and whose process is gone."""
    trio.run(_leave, state_path, description, session, files)


async def _leave(
    state_path: PurePath,
    description: Mapping[str, object],
    session: SessionId,
    files: Mapping[str, bytes],
) -> None:
    header = replace(
        HEADER,
        session=session,
        project=str(description["project"]),
        stage=str(description["stage"]),
    )
    with StateDirectory(OsDisk(), state_path) as state:
        workspace = DiskWorkspace(OsDisk(), state, header, description, _never, _never)
        work = await workspace.begin(new_tree(uid=os.getuid(), gid=os.getgid()), Fence(1))
        process = Process(StageFilesystem(work.ledger, now_ns=_now, room=lambda: None))  # type: ignore[arg-type, return-value]  # nobody asks for room
        for name, data in files.items():
            process.write_file(name, data)
            await work.sync()
        workspace.close()


def _now() -> int:
    return 1_800_000_000 * 10**9


async def _never(*_: object) -> bytes:
    raise AssertionError
