"""An exception in any handler is EIO for who asked, and the mount lives (figure F2)."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pdfs.fuse import FuseOperations
from tests.fuse.mounts import Mount, refused

Action = Callable[[Path], object]


def close_one(path: Path) -> None:
    os.close(os.open(path / "f", os.O_RDWR))


def write_one(path: Path) -> None:
    descriptor = os.open(path / "f", os.O_RDWR)
    try:
        os.write(descriptor, b"x")
    finally:
        os.close(descriptor)


def sync_one(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def stat_after_write(path: Path) -> None:
    write_one(path)
    os.stat(path / "f")


def read_past_the_cache(path: Path) -> None:
    """Through the cache, the kernel would just try again."""
    descriptor = os.open(path / "f", os.O_RDONLY | os.O_DIRECT)
    try:
        os.read(descriptor, 4096)
    finally:
        os.close(descriptor)


ACTIONS: dict[str, Action] = {
    "lookup": lambda path: os.stat(path / "new"),
    "getattr": stat_after_write,
    "setattr": lambda path: os.chmod(path / "f", 0o600),
    "readlink": lambda path: os.readlink(path / "s"),
    "statfs": os.statvfs,
    "mknod": lambda path: os.mkfifo(path / "new"),
    "mkdir": lambda path: os.mkdir(path / "new"),
    "symlink": lambda path: os.symlink("t", path / "new"),
    "link": lambda path: os.link(path / "f", path / "new"),
    "unlink": lambda path: os.unlink(path / "f"),
    "rmdir": lambda path: os.rmdir(path / "d"),
    "rename": lambda path: os.rename(path / "f", path / "new"),
    "opendir": os.listdir,
    "readdir": os.listdir,
    "fsyncdir": sync_one,
    "create": lambda path: os.open(path / "new", os.O_CREAT),
    "open": lambda path: os.open(path / "f", os.O_RDONLY),
    "read": read_past_the_cache,
    "write": write_one,
    "flush": close_one,
    "fsync": lambda path: sync_one(path / "f"),
    "setxattr": lambda path: os.setxattr(path / "f", "user.y", b""),
    "getxattr": lambda path: os.getxattr(path / "f", "user.x"),
    "listxattr": lambda path: os.listxattr(path / "f"),
    "removexattr": lambda path: os.removexattr(path / "f", "user.x"),
}
SILENT: dict[str, Action] = {
    "forget": lambda path: os.unlink(path / "f"),
    "release": close_one,
    "releasedir": os.listdir,
}
ANSWERING = [
    method
    for method in ACTIONS
    if method not in {"unlink", "rmdir", "rename", "fsyncdir", "flush", "fsync"}
    and not method.endswith(("setxattr", "removexattr"))
]


@pytest.fixture
def there(place: Path) -> Path:
    """A directory with a file, a symlink and a directory."""
    (place / "f").write_bytes(b"content")
    os.setxattr(place / "f", "user.x", b"")
    os.symlink("t", place / "s")
    (place / "d").mkdir()
    return place


def check_lives(mount: Mount) -> None:
    path = mount.path / "alive"
    path.write_bytes(b"yes")
    assert path.read_bytes() == b"yes"
    path.unlink()


def test_every_handler_is_tried() -> None:
    methods = {name for name in vars(FuseOperations) if not name.startswith("_")}
    helpers = {"refusal", "again_with_room"}
    assert methods - helpers == ACTIONS.keys() | SILENT.keys()


@pytest.mark.figure(name="F2")
@pytest.mark.parametrize("how", ["bug", "errno", "group"])
@pytest.mark.parametrize("method", ACTIONS)
def test_an_exception_is_eio_and_is_logged_whole(
    mount: Mount, there: Path, method: str, how: str
) -> None:
    mount.order("break", method, how)
    with refused(errno.EIO):
        ACTIONS[method](there)
    assert "Traceback" in mount.wait_logged(f"{method} failed, which it never should")
    check_lives(mount)


@pytest.mark.figure(name="F2")
@pytest.mark.parametrize("method", ACTIONS)
def test_out_of_memory_is_told_to_who_asked_and_the_mount_goes_on(
    mount: Mount, there: Path, method: str
) -> None:
    mount.order("break", method, "memory")
    with refused(errno.ENOMEM):
        ACTIONS[method](there)
    mount.wait_logged(f"{method} failed: there is no memory")
    check_lives(mount)


@pytest.mark.figure(name="F2")
@pytest.mark.parametrize("method", ANSWERING)
def test_an_answer_of_a_wrong_type_is_eio_too(mount: Mount, there: Path, method: str) -> None:
    mount.order("break", method, "wrong-type")
    with refused(errno.EIO):
        ACTIONS[method](there)
    mount.wait_logged(f"{method} failed, which it never should")
    check_lives(mount)


@pytest.mark.figure(name="F2")
@pytest.mark.parametrize("how", ["bug", "errno", "group", "memory", "store"])
@pytest.mark.parametrize("method", SILENT)
def test_an_exception_that_nobody_can_be_told_is_logged(
    mount: Mount, there: Path, method: str, how: str
) -> None:
    mount.order("break", method, how)
    SILENT[method](there)
    words = {"store": ": the bucket does not answer", "memory": " failed: there is no memory"}.get(
        how, " failed, which it never should"
    )
    mount.wait_logged(f"{method}{words}")
    check_lives(mount)


def test_what_is_wrong_with_the_bucket_is_said_in_words_and_once(mount: Mount, there: Path) -> None:
    for _ in range(2):
        for _ in range(3):
            mount.order("break", "open", "store")
            with refused(errno.EIO):
                (there / "f").read_bytes()
        assert "Traceback" not in mount.wait_logged("open: the bucket does not answer")
        (there / "f").read_bytes()
    check_lives(mount)
