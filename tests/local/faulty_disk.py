"""A disk whose k-th call fails, as a full, dying or interrupted one would."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

from pdfs.disk import Buffer, OsDisk

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What goes wrong: call number `at`, from 1, and with `for_ever` all after it."""

    at: int
    error: int = 0
    """An errno; 0 = no error, a write just takes less than it was given."""
    for_ever: bool = False
    takes: int = 0
    """Percent of its bytes that a failing write still puts on the disk."""
    calls: frozenset[str] = frozenset()
    """Only these are counted and fail; empty = all of them."""


class FaultyDisk(OsDisk):
    """The real disk until the fault. `made` lists the calls, the failing ones included."""

    def __init__(self, fault: Fault | None = None) -> None:
        self.made: list[str] = []
        self.failed = 0
        self._fault = fault
        self._counted = 0

    @property
    def fault(self) -> Fault | None:
        return self._fault

    @fault.setter
    def fault(self, fault: Fault | None) -> None:
        """Count from 1 again."""
        self._fault = fault
        self._counted = 0

    def _is_due(self, call: str) -> bool:
        self.made.append(call)
        fault = self.fault
        if fault is None or (fault.calls and call not in fault.calls):
            return False
        self._counted += 1
        is_due = self._counted == fault.at or (fault.for_ever and self._counted > fault.at)
        self.failed += is_due
        return is_due

    def _try(self, call: str, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        if self._is_due(call) and self.fault is not None and self.fault.error:
            raise OSError(self.fault.error, os.strerror(self.fault.error))
        return function(*args, **kwargs)

    def open(self, directory: int, name: str, flags: int, mode: int = 0o600) -> int:
        return self._try("open", super().open, directory, name, flags, mode)

    def open_directory(self, name: str, directory: int | None = None) -> int:
        return self._try("open_directory", super().open_directory, name, directory)

    def pwritev(self, descriptor: int, buffers: Sequence[Buffer], offset: int) -> int:
        if not self._is_due("pwritev") or self.fault is None:
            return self.write(descriptor, buffers, offset)
        whole = b"".join(buffers)
        part = whole[: len(whole) * self.fault.takes // 100]
        taken = self.write(descriptor, [part], offset) if part else 0
        if self.fault.error:
            raise OSError(self.fault.error, os.strerror(self.fault.error))
        return taken

    def write(self, descriptor: int, buffers: Sequence[Buffer], offset: int) -> int:
        """What of a write comes through."""
        return super().pwritev(descriptor, buffers, offset)

    def ftruncate(self, descriptor: int, size: int) -> None:
        self._try("ftruncate", super().ftruncate, descriptor, size)

    def allocate(self, descriptor: int, offset: int, length: int) -> None:
        self._try("allocate", super().allocate, descriptor, offset, length)

    def fdatasync(self, descriptor: int) -> None:
        self._try("fdatasync", super().fdatasync, descriptor)

    def fsync(self, descriptor: int) -> None:
        self._try("fsync", super().fsync, descriptor)

    def rename(self, old_directory: int, old: str, new_directory: int, new: str) -> None:
        self._try("rename", super().rename, old_directory, old, new_directory, new)

    def rename_noreplace(self, old_directory: int, old: str, new_directory: int, new: str) -> None:
        self._try("rename", super().rename_noreplace, old_directory, old, new_directory, new)

    def rename_exchange(self, old_directory: int, old: str, new_directory: int, new: str) -> None:
        self._try("rename", super().rename_exchange, old_directory, old, new_directory, new)

    def link(self, old_directory: int, old: str, new_directory: int, new: str) -> None:
        self._try("link", super().link, old_directory, old, new_directory, new)

    def symlink(self, target: str, directory: int, name: str) -> None:
        self._try("symlink", super().symlink, target, directory, name)

    def unlink(self, directory: int, name: str) -> None:
        self._try("unlink", super().unlink, directory, name)

    def mkdir(self, directory: int, name: str, mode: int = 0o700) -> None:
        self._try("mkdir", super().mkdir, directory, name, mode)

    def rmdir(self, directory: int, name: str) -> None:
        self._try("rmdir", super().rmdir, directory, name)

    def setxattr(self, descriptor: int, name: str, value: bytes) -> None:
        self._try("setxattr", super().setxattr, descriptor, name, value)

    def fchmod(self, descriptor: int, mode: int) -> None:
        self._try("fchmod", super().fchmod, descriptor, mode)

    def utime(self, descriptor: int, mtime_ns: int | None = None) -> None:
        self._try("utime", super().utime, descriptor, mtime_ns)

    def utime_at(self, directory: int, name: str, mtime_ns: int) -> None:
        self._try("utime_at", super().utime_at, directory, name, mtime_ns)
