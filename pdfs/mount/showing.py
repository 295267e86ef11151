"""A file system at its mountpoint: mounted, answering, and taken away from processes."""

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager

import trio

from pdfs import fuse
from pdfs.core.keys import StageKeys
from pdfs.errors import MountError
from pdfs.fs.filesystem import StageFilesystem
from pdfs.mount.detach import detach, unmount
from pdfs.mount.mounts import mount_at

logger = logging.getLogger(__name__)


class Showing:
    """One mount of one stage at `mountpoint`."""

    def __init__(
        self,
        keys: StageKeys,
        mountpoint: str,
        *,
        allow_other: bool,
        caching: Callable[[], fuse.Caching],
        read_only: bool = False,
        on_mounted: Callable[[], None],
    ) -> None:
        """`on_mounted` is called when the mount answers."""
        self.mountpoint = mountpoint
        self._options = fuse.MountOptions(
            source=f"{keys.project}/{keys.stage}",
            allow_other=allow_other,
            caching=caching,
            read_only=read_only,
        )
        self._on_mounted = on_mounted
        self._scope = trio.CancelScope()
        """Ends the mount, also while programs use it."""
        self._device: str | None = None
        self.was_mounted = False

    async def show(
        self, filesystem: StageFilesystem, directory: AbstractContextManager[None]
    ) -> None:
        """Mount, and answer until it is unmounted; `directory` is there as long as that."""
        with directory, self._scope:
            await fuse.serve(
                filesystem, self.mountpoint, self._options, task_status=_Mounted(self._mounted)
            )

    async def unmount(self) -> None:
        """In order. Raises MountError, naming the processes, where some use it."""
        await unmount(self.mountpoint, self._device)

    async def cut_off(self) -> None:
        """End the mount also when programs use it: what they do from here on fails, visibly.

        What can't be done in order is logged, and done by force: who asked for an end gets one.
        """
        try:
            await detach(self.mountpoint, self._device)
        except MountError as error:
            logger.error("programs may not have been cut off in order: %s", error)
        self._scope.cancel()

    def _mounted(self) -> None:
        mounted = mount_at(self.mountpoint)
        self._device = None if mounted is None else mounted.device
        self.was_mounted = True
        self._on_mounted()


class _Mounted:
    """Hears from `fuse.serve` that the mount answers."""

    def __init__(self, call: Callable[[], None]) -> None:
        self._call = call

    def started(self, value: None = None) -> None:
        self._call()
