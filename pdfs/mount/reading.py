"""Carries a read-only mount: joins `StageReader` with file system, control socket and signals.

There is nothing to lose, so every end is an orderly one: an unmount, a signal, or an error ends it
at once. On this machine it has a directory in `readers`, for `pdfs status` and `pdfs umount`.
"""

import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import NoReturn

import trio

from pdfs import fuse
from pdfs.core.document import Malformed
from pdfs.core.ids import SessionId
from pdfs.core.lease import moment
from pdfs.core.notes import Note
from pdfs.core.tree import Tree
from pdfs.disk import OsDisk
from pdfs.errors import LockError, NotFoundError, SessionError, Stopped
from pdfs.fs.filesystem import StageFilesystem
from pdfs.local.cache import PartCache
from pdfs.local.ledger import Fetch, Ledger
from pdfs.local.session_directory import SessionDirectory
from pdfs.local.state import Listed, StateDirectory
from pdfs.local.unjournaled import NoJournal
from pdfs.mount.control import NOTHING, ControlServer, Result
from pdfs.mount.description import description_of
from pdfs.mount.memory import give_back, settle_memory
from pdfs.mount.mountpoint import made_for_mount
from pdfs.mount.mounts import mount_at
from pdfs.mount.progress import ProgressTeller
from pdfs.mount.request import MountRequest
from pdfs.mount.showing import Showing
from pdfs.mount.status import mount_fields
from pdfs.mount.stopping import Stopping
from pdfs.mount.workspace import MADE
from pdfs.reader import StageReader
from pdfs.stage.contents import Contents
from pdfs.stage.context import StageContext
from pdfs.stage.together import background


class ReaderCarrier:
    """One read-only mount in this process."""

    def __init__(
        self,
        request: MountRequest,
        report: Callable[[Mapping[str, object]], None],
        ctx: StageContext,
        state: StateDirectory,
        cache: PartCache,
    ) -> None:
        assert request.mountpoint is not None
        self._request = request
        self._report = report
        self._ctx = ctx = replace(ctx, keep=cache.put)
        self._state = state
        self._contents = Contents(ctx, cache)
        self._reader = StageReader(ctx, follows=request.follows)
        self._filesystem: StageFilesystem | None = None
        self._moved = trio.Event()
        """Another generation is shown since it was looked at last."""
        self._showing = Showing(
            ctx.keys,
            request.mountpoint,
            allow_other=request.allow_other,
            caching=lambda: fuse.FOLLOWING if request.follows else fuse.FOREVER,
            read_only=True,
            on_mounted=self._tell_mounted,
        )
        self._control = ControlServer(
            request.configuration.runtime,
            ctx.owner.session,
            {
                "status": self._status,
                "umount": self._umount,
                "publish": partial(self._refuse, "publish"),
                "abort": partial(self._refuse, "abort"),
            },
        )
        self._progress = ProgressTeller(lambda: self._contents.prefetched, ctx.uploads, self._tell)
        self._stopping = Stopping(
            0.0,
            state=lambda: self._reader.state,
            is_mounted=lambda: self._reader.is_serving,
            cut_off=self._showing.cut_off,
            note=_unheard,
        )
        self._mountable = trio.Event()
        """There is a mount to be taken away, or there will be none."""
        self._ended = trio.Event()

    async def run(self) -> None:
        """Carry it to its end. Raises PdfsError where it could not be mounted, Stopped."""
        directory = self._state.create_reader(self._ctx.owner.session)
        try:
            directory.describe(self._description())
            async with (
                self._control.served(),
                self._stopping.heard(),
                background(self._progress.run),
            ):
                await self._run(directory)
        finally:
            self._state.remove_reader(directory)
        if self._stopping.scope.cancelled_caught:
            raise Stopped(f"the read-only mount was stopped {self._stopping.why}")

    async def _run(self, directory: SessionDirectory) -> None:
        try:
            with self._stopping.scope:
                await self._reader.run(partial(self._serve, directory))
        finally:
            self._mountable.set()
            self._ended.set()
            with trio.CancelScope(shield=True):
                await self._control.finish()

    # --- serving ----------------------------------------------------------------------------------

    async def _serve(self, directory: SessionDirectory, tree: Tree) -> None:
        filesystem = filesystem_of(
            tree, self._contents.read, room=lambda: os.statvfs(self._state.path)
        )
        settle_memory()
        self._filesystem = filesystem
        self._reader.in_use = filesystem.in_use
        self._reader.move_to = partial(self._move_to, filesystem)
        place = made_for_mount(
            OsDisk(),
            self._showing.mountpoint,
            is_ours=False,
            note_made=lambda: directory.describe({**self._description(), MADE: True}),
        )
        async with background(partial(self._prefetch, filesystem)):
            await self._showing.show(filesystem, place)

    def _move_to(self, filesystem: StageFilesystem, tree: Tree, told: Callable[[], None]) -> None:
        filesystem.move_to(tree, told)
        self._moved.set()

    async def _prefetch(self, filesystem: StageFilesystem) -> None:
        """Bring the contents here, of each generation in turn."""
        while True:
            self._moved = trio.Event()
            nodes = filesystem.tree.nodes.values()
            bases = {node.base for node in nodes if node.is_file}
            await self._contents.prefetch(bases)
            give_back()
            await self._moved.wait()

    def _tell_mounted(self) -> None:
        self._mountable.set()
        self._report(
            {
                "event": "mounted",
                "session": self._ctx.owner.session,
                "pid": os.getpid(),
                "mountpoint": self._showing.mountpoint,
                "reader": self._reader_fields(),
            }
        )

    # --- control ----------------------------------------------------------------------------------

    async def _status(self, _: Result = NOTHING) -> Result:
        reader, filesystem = self._reader, self._filesystem
        return {
            **mount_fields(self._request, self._ctx, reader, self._contents.prefetched),
            "reader": self._reader_fields(),
            "lock": None,
            "trouble": None if reader.trouble is None else str(reader.trouble),
            "read_only": None,
            "damage": None,
            "lost": None,
            "conflicts": [],
            "not_removed": [],
            "unreadable": {} if filesystem is None else filesystem.unreadable,
            "invisible": None,
            "upload": None,
        }

    def _reader_fields(self) -> dict[str, object]:
        """Which generation is shown; null where none is yet."""
        shown = self._reader.shown
        if shown is None:
            return {"follows": self._reader.follows, "generation": None}
        return {
            "follows": self._reader.follows,
            "generation": shown.generation,
            "tree": shown.name,
            "published": _moment(shown.published),
            "since": moment(shown.since),
        }

    async def _umount(self, _: Result = NOTHING) -> Result:
        """Unmount; answers when that is done."""
        await self._mountable.wait()
        if self._reader.is_serving:
            await self._showing.unmount()
        await self._ended.wait()
        return {"exit_code": 0}

    async def _refuse(self, what: str, _: Result) -> NoReturn:
        raise SessionError(
            f"there is nothing to {what}: the stage is mounted read-only",
            remedy="to edit it, mount it without --read-only",
        )

    def _tell(self, event: Mapping[str, object]) -> None:
        self._report(event)
        self._control.tell(event)

    def _description(self) -> dict[str, object]:
        return description_of(
            self._request.configuration,
            self._ctx,
            self._showing.mountpoint,
            pid=os.getpid(),
            started=self._ctx.now(),
        )


def remove_ended_readers(state: StateDirectory) -> None:
    """Forget the read-only mounts whose process died and whose mount is gone. Raises DiskError."""
    for each in state.readers():
        if not each.is_held and not _is_mounted(each):
            with suppress(LockError, NotFoundError):  # another process was at it, too
                state.remove_reader(state.open_reader(SessionId(each.session)))


def _is_mounted(reader: Listed) -> bool:
    """Whether a dead mount may be left of it."""
    try:
        place = "" if reader.description is None else reader.description.text("mountpoint", "")
    except Malformed:
        return False
    return bool(place) and mount_at(place) is not None


def _moment(published: float) -> str | None:
    """As the manifest has it, which somebody else wrote."""
    try:
        return moment(published) if published else None
    except (ValueError, OverflowError, OSError):
        return None


def filesystem_of(
    tree: Tree, fetch: Fetch, *, room: Callable[[], os.statvfs_result]
) -> StageFilesystem:
    """What processes see of `tree`: nothing that they do changes it."""
    ledger = Ledger(tree, NoJournal(), fetch=fetch, run_blocking=_nothing_to_run)
    filesystem = StageFilesystem(ledger, now_ns=time.time_ns, room=room)
    filesystem.read_only = SessionError("the stage is mounted read-only")
    return filesystem


def _unheard(note: Note) -> None:
    pass


async def _nothing_to_run(call: Callable[[], None]) -> None:
    await trio.lowlevel.checkpoint()
    call()
