"""Taking the mount away from processes: first what they mapped is written, then the mount goes."""

import logging
import os
import shlex
import subprocess

import trio

from pdfs.disk import read_path
from pdfs.errors import MountError
from pdfs.mount.mounts import KIND, mount_at, read_mounts

_SYNC = 20.0
"""Seconds that the kernel gets to write what programs have mapped."""
_KILL = 1.0
"""Seconds until a helper that was killed is gone, if it is at all."""
_UNWRITTEN = "the kernel has not written all that programs have mapped of"

logger = logging.getLogger(__name__)


async def sync_mount(mountpoint: str) -> None:
    """syncfs on the mount, by a helper: a daemon that touches its own mount waits for itself.

    Raises MountError where what programs have mapped may not be written; that can be tried again.
    """
    process = await _started(["sync", "--file-system", mountpoint])
    try:
        with trio.move_on_after(_SYNC) as limit:
            await process.wait()
    finally:
        await _end(process)
    if limit.cancelled_caught:
        raise MountError(f"{_UNWRITTEN} {mountpoint} within {_SYNC:g} s")
    if process.returncode and is_mounted(mountpoint):
        raise MountError(f"{_UNWRITTEN} {mountpoint}: sync ended with {process.returncode}")


async def unmount(mountpoint: str, device: str | None) -> None:
    """Unmount what is mounted there. Raises MountError, naming the processes, where some use it, or
    where it is now, should a directory above it have been renamed: it is known by its `device`,
    since a stage can be mounted several times.

    An unmount in order writes what is mapped by itself: that the attempt before failed is logged.
    """
    try:
        await sync_mount(mountpoint)
    except MountError as error:
        logger.warning("%s", error)
    result = await _run(["fusermount3", "-u", mountpoint])
    if result.returncode == 0:
        return
    if not is_mounted(mountpoint):
        if places := places_of(device):
            raise MountError(
                f"what was mounted at {mountpoint} is there no more, but at "
                f"{' and '.join(places)}: a directory was renamed",
                remedy=f"rename it back; or {shlex.join(['fusermount3', '-u', places[0]])}",
            )
        return
    users = await trio.to_thread.run_sync(processes_in, mountpoint)
    if not users:
        raise MountError(f"{mountpoint} can't be unmounted: {_said(result)}")
    raise MountError(
        f"{mountpoint} is in use by {', '.join(users)}",
        remedy="close these programs, or leave the directory in these shells, and try again",
    )


async def detach(mountpoint: str, device: str | None) -> None:
    """Take the mount out of the tree of files at once, also while programs use it, and where a
    directory above it was renamed.

    Raises MountError where something of that could not be done.
    """
    try:
        await sync_mount(mountpoint)
    finally:
        result = await _run(["fusermount3", "-u", "-z", mountpoint])
        moved = [] if not result.returncode or is_mounted(mountpoint) else places_of(device)
        if len(moved) == 1:
            result = await _run(["fusermount3", "-u", "-z", *moved])
    if result.returncode and is_mounted(mountpoint):
        raise MountError(f"{mountpoint} can't be detached: {_said(result)}")


def is_mounted(mountpoint: str) -> bool:
    """Whether something is mounted exactly there."""
    return mount_at(mountpoint) is not None


def places_of(device: str | None) -> list[str]:
    """Where the mount of that device is now; nowhere for None."""
    return [each.mountpoint for each in read_mounts() if (each.kind, each.device) == (KIND, device)]


def processes_in(mountpoint: str) -> list[str]:
    """`name (pid)` of each process that has something below the mountpoint open, as far as this
    user may see it. Reads links in /proc only, never the mount."""
    others = [name for name in os.listdir("/proc") if name.isdecimal() and name != str(os.getpid())]
    return sorted(f"{_name_of(pid)} ({pid})" for pid in others if _is_in(pid, mountpoint))


def _is_in(pid: str, mountpoint: str) -> bool:
    links = [f"/proc/{pid}/{name}" for name in ("cwd", "root", "exe")]
    try:
        links += [f"/proc/{pid}/fd/{name}" for name in os.listdir(f"/proc/{pid}/fd")]
    except OSError:
        return False
    return any(_points_below(link, mountpoint) for link in links) or _maps(pid, mountpoint)


def _points_below(link: str, mountpoint: str) -> bool:
    try:
        target = os.readlink(link)
    except OSError:
        return False
    return target == mountpoint or target.startswith(f"{mountpoint}/")


def _maps(pid: str, mountpoint: str) -> bool:
    try:
        return os.fsencode(f" {mountpoint}/") in read_path(f"/proc/{pid}/maps")
    except OSError:
        return False


def _name_of(pid: str) -> str:
    try:
        return os.fsdecode(read_path(f"/proc/{pid}/comm")).strip()
    except OSError:
        return "?"


def _said(result: subprocess.CompletedProcess[bytes]) -> str:
    return result.stderr.decode(errors="replace").strip() or f"status {result.returncode}"


async def _started(command: list[str]) -> trio.Process:
    try:
        return await trio.lowlevel.open_process(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
    except OSError as error:
        raise _missing(command, error) from error


async def _end(process: trio.Process) -> None:
    """Kill it if it runs; one that the kernel does not let go is not waited for."""
    if process.returncode is None:
        process.kill()
        with trio.move_on_after(_KILL, shield=True):
            await process.wait()


async def _run(command: list[str]) -> subprocess.CompletedProcess[bytes]:
    try:
        return await trio.run_process(
            command, capture_stdout=True, capture_stderr=True, check=False
        )
    except OSError as error:
        raise _missing(command, error) from error


def _missing(command: list[str], error: OSError) -> MountError:
    return MountError(f"{command[0]} can't be run: {error}")
