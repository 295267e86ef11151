"""What can be wrong with a mountpoint or with FUSE, found before the bucket is asked anything."""

import errno
import os
import stat
import subprocess
from typing import Final

from pdfs.cli.sessions import full_path
from pdfs.errors import MountError
from pdfs.mount.mounts import KIND, Mounted, mount_at

FUSE_DEVICE: Final = "/dev/fuse"
_UNMOUNTER: Final = "fusermount3"
_LONGEST_UNMOUNT: Final = 30.0


def check_mountpoint(given: str) -> str:
    """The full path of a mountpoint that is empty, or can be made. Raises MountError.

    A dead mount of PDFS there is cleaned up first: nobody can use it for anything else.
    """
    path = full_path(given)
    remove_dead_mount(path)
    mounted = mount_at(path)
    if mounted is not None:
        raise MountError(
            f"{path} is a mountpoint already ({mounted.kind}, {mounted.source})",
            remedy=f"unmount it first: {_unmount_command(mounted, path)}",
        )
    _check_directory(path)
    return path


def _unmount_command(mounted: Mounted, path: str) -> str:
    return f"pdfs umount {path}" if mounted.kind == KIND else f"umount {path}"


def _check_directory(path: str) -> None:
    try:
        status = os.stat(path)
        if not stat.S_ISDIR(status.st_mode):
            raise MountError(
                f"the mountpoint {path} is not a directory", remedy="name an empty directory"
            )
        names = os.listdir(path)
    except FileNotFoundError:
        _check_can_be_made(path)
        return
    except OSError as error:
        raise MountError(
            f"the mountpoint {path} can't be used: {error.strerror}",
            remedy="name an empty directory of your own",
        ) from error
    if names:
        raise MountError(
            f"the mountpoint {path} is not empty: {_few(names)}",
            remedy="what is there would be hidden by the mount: move it away, or name another one",
        )
    if os.geteuid() != 0 and not os.access(path, os.W_OK):
        raise MountError(
            f"the mountpoint {path} is not writable for you",
            remedy="name an empty directory of your own",
        )


def _check_can_be_made(path: str) -> None:
    """The mount makes it, and takes it away again."""
    parent = os.path.dirname(path)
    if not os.path.isdir(parent):
        raise MountError(
            f"the mountpoint {path} does not exist, nor does the directory above it",
            remedy=f"make that: mkdir -p {parent}",
        )
    if not os.access(parent, os.W_OK | os.X_OK):
        raise MountError(
            f"the mountpoint {path} does not exist, and can't be made by you in {parent}",
            remedy="name an empty directory of your own",
        )


def _few(names: list[str]) -> str:
    shown = ", ".join(sorted(names)[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"


def check_fuse() -> None:
    """Raises MountError where this machine has no FUSE that this user may use."""
    try:
        status = os.stat(FUSE_DEVICE)
    except OSError:
        raise MountError(
            f"there is no {FUSE_DEVICE} on this machine",
            remedy="load it: sudo modprobe fuse; in a container, pass it in: --device /dev/fuse",
        ) from None
    if not stat.S_ISCHR(status.st_mode):
        raise MountError(
            f"{FUSE_DEVICE} is no device", remedy="in a container, pass it in: --device /dev/fuse"
        )
    program = find_program(_UNMOUNTER)
    if program is None:
        raise MountError(f"{_UNMOUNTER} is not installed", remedy="sudo apt-get install fuse3")
    if not os.access(FUSE_DEVICE, os.R_OK | os.W_OK):
        raise MountError(
            f"you have no right to use {FUSE_DEVICE}", remedy=f"as root: chmod 666 {FUSE_DEVICE}"
        )
    if os.geteuid() != 0 and not os.stat(program).st_mode & stat.S_ISUID:
        raise MountError(
            f"{program} is not setuid root, so only root can mount",
            remedy=f"as root: chmod u+s {program}",
        )


def find_program(name: str) -> str | None:
    """The full path of a program."""
    for directory in os.get_exec_path():
        path = os.path.join(directory, name)
        if os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    return None


def is_dead(path: str) -> bool:
    """Whether a mount is there whose daemon is gone."""
    try:
        os.statvfs(path)  # stat would be answered from the kernel's cache
    except OSError as error:
        return error.errno in (errno.ENOTCONN, errno.ECONNABORTED)
    return False


def remove_dead_mount(path: str) -> bool:
    """Detach a mount whose daemon is gone; whether there was one. Raises MountError."""
    if not is_dead(path):
        return False
    done = _unmount_lazily(path)
    if is_dead(path):
        raise MountError(
            f"a dead mount is at {path} and can't be removed: {done}",
            remedy=f"as root: umount -l {path}",
        )
    return True


def _unmount_lazily(path: str) -> str:
    """What was said about it."""
    program = find_program(_UNMOUNTER)
    if program is None:
        return f"{_UNMOUNTER} is not installed"
    try:
        done = subprocess.run(
            [program, "-u", "-z", "--", path],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_LONGEST_UNMOUNT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"{_UNMOUNTER} did not end"
    return done.stderr.strip()
