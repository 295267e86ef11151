"""Taking the mount away from processes: first what they mapped is written, then the mount goes."""

import os
import subprocess
from pathlib import Path

import trio

from pdfs.errors import MountError

_SYNC = 20.0
"""Seconds that the kernel gets to write what programs have mapped."""


async def sync_mount(mountpoint: str) -> None:
    """syncfs on the mount, by a helper: a daemon that touches its own mount waits for itself."""
    with trio.move_on_after(_SYNC):
        await _run(["sync", "--file-system", mountpoint])


async def unmount(mountpoint: str) -> None:
    """Unmount. Raises MountError, naming the processes, where some use it."""
    await sync_mount(mountpoint)
    result = await _run(["fusermount3", "-u", mountpoint])
    if result.returncode == 0 or not is_mounted(mountpoint):
        return
    users = await trio.to_thread.run_sync(processes_in, mountpoint)
    if not users:
        raise MountError(f"{mountpoint} can't be unmounted: {_said(result)}")
    raise MountError(
        f"{mountpoint} is in use by {', '.join(users)}",
        remedy="close these programs, or leave the directory in these shells, and try again",
    )


async def detach(mountpoint: str) -> None:
    """Take the mount out of the tree of files at once, also while programs use it."""
    await sync_mount(mountpoint)
    await _run(["fusermount3", "-u", "-z", mountpoint])


def is_mounted(mountpoint: str) -> bool:
    """Whether something is mounted exactly there; asks the kernel's table, never the mount."""
    escaped = mountpoint.replace("\\", "\\134").replace(" ", "\\040")
    escaped = escaped.replace("\t", "\\011").replace("\n", "\\012")
    table = Path("/proc/self/mountinfo").read_text(errors="surrogateescape")
    return any(line.split(" ")[4] == escaped for line in table.splitlines())


def processes_in(mountpoint: str) -> list[str]:
    """`name (pid)` of each process that has something below the mountpoint open, as far as this
    user may see it. Reads links in /proc only, never the mount."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid() and _is_in(entry, mountpoint):
            found.append(f"{_name_of(entry)} ({entry.name})")
    return sorted(found)


def _is_in(process: Path, mountpoint: str) -> bool:
    links = [process / "cwd", process / "root", process / "exe"]
    try:
        links += (process / "fd").iterdir()
    except OSError:
        return False
    return any(_points_below(link, mountpoint) for link in links) or _maps(process, mountpoint)


def _points_below(link: Path, mountpoint: str) -> bool:
    try:
        target = os.readlink(link)
    except OSError:
        return False
    return target == mountpoint or target.startswith(f"{mountpoint}/")


def _maps(process: Path, mountpoint: str) -> bool:
    try:
        return f" {mountpoint}/" in (process / "maps").read_text(errors="replace")
    except OSError:
        return False


def _name_of(process: Path) -> str:
    try:
        return (process / "comm").read_text(errors="replace").strip()
    except OSError:
        return "?"


def _said(result: subprocess.CompletedProcess[bytes]) -> str:
    return result.stderr.decode(errors="replace").strip() or f"status {result.returncode}"


async def _run(command: list[str]) -> subprocess.CompletedProcess[bytes]:
    return await trio.run_process(command, capture_stdout=True, capture_stderr=True, check=False)
