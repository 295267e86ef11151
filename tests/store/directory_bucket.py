"""A directory bucket for tests, and disks on which something happens between our calls."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pdfs.disk import OsDisk
from pdfs.store.directory import DirectoryStore

HIDDEN = ".pdfs-bucket"


async def keys(store: DirectoryStore) -> list[str]:
    return [row.key async for page in store.list("") for row in page]


def names_below(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*"))


def read(path: Path | str) -> bytes:
    return Path(path).read_bytes()


def hidden_files(root: Path) -> list[Path]:
    return [path for path in (root / HIDDEN / "new").glob("*") if path.is_file()]


class MeddledDisk(OsDisk):
    """A disk on which another tool acts just before one of our calls."""

    def __init__(self, call: str, meddle: Callable[[], None], *, times: int = 1) -> None:
        self.meddle = meddle
        self.times = times
        real = getattr(self, call)

        def meddled(*args: Any) -> Any:
            if self.times:
                self.times -= 1
                self.meddle()
            return real(*args)

        setattr(self, call, meddled)


def replacing(path: Path, body: bytes) -> Callable[[], None]:
    """Another tool's save: a new file, renamed over the old one."""

    def replace() -> None:
        new = path.with_name(path.name + "~")
        new.write_bytes(body)
        new.rename(path)

    return replace


class Crash(BaseException):
    """The process dies here."""


class RecordingDisk(OsDisk):
    """Names the changing calls in order, and can die before the k-th, or make it fail."""

    CHANGES = (
        "pwritev",
        "fsync",
        "rename",
        "rename_noreplace",
        "rename_exchange",
        "unlink",
        "mkdir",
        "rmdir",
        "setxattr",
    )

    def __init__(self, *, fail_at: int | None = None, error: BaseException | None = None) -> None:
        self.calls: list[str] = []
        self.done: list[str] = []
        """Those that succeeded: making a directory that exists does not."""
        self._fail_at = fail_at
        self._error = error or Crash()
        for name in self.CHANGES:
            setattr(self, name, self._recorded(name, getattr(self, name)))

    def _recorded(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def recorded(*args: Any) -> Any:
            self.calls.append(name)
            if self._fails_now():
                raise self._error
            result = call(*args)
            self.done.append(name)
            return result

        return recorded

    def _fails_now(self) -> bool:
        """A dead process makes no further call; a disk that is full for a moment works again."""
        if self._fail_at is None or len(self.calls) <= self._fail_at:
            return False
        return isinstance(self._error, Crash) or len(self.calls) == self._fail_at + 1


def steps(disk: RecordingDisk) -> list[str]:
    return [call for call in disk.done if call != "setxattr"]
