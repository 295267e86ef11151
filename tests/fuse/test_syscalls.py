"""What programs do to files, through the kernel."""

import ctypes
import errno
import fcntl
import mmap
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from tests.fuse.mounts import Mount, refused, run

libc = ctypes.CDLL(None, use_errno=True)


@contextmanager
def opened(path: Path, flags: int = os.O_RDWR | os.O_CREAT) -> Iterator[int]:
    descriptor = os.open(path, flags, 0o644)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def test_what_is_mounted_is_pdfs(mount: Mount) -> None:
    (line,) = [
        line
        for line in Path("/proc/self/mounts").read_text().splitlines()
        if f" {mount.path} " in line
    ]
    source, _, kind, options, *_ = line.split(" ")
    assert kind == "fuse.pdfs"
    assert source == "Kraftwerk_?,\\134" + "1234567/planning"
    assert "default_permissions" in options


def test_create_write_append_truncate_read(place: Path) -> None:
    path = place / "f"
    path.write_bytes(b"one")
    with path.open("ab") as file:
        file.write(b" two")
    assert path.read_bytes() == b"one two"
    os.truncate(path, 3)
    assert path.read_bytes() == b"one"
    os.truncate(path, 5)
    assert path.read_bytes() == b"one\0\0"
    path.write_bytes(b"new")
    assert path.read_bytes() == b"new"
    assert os.stat(path).st_size == 3


def test_a_large_file_comes_back_as_it_was(place: Path) -> None:
    data = os.urandom(9 << 20)
    (place / "f").write_bytes(data)
    with opened(place / "f", os.O_RDWR) as descriptor:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.pwrite(descriptor, b"x" * 10_000, 1_048_570)
    expected = data[:1_048_570] + b"x" * 10_000 + data[1_058_570:]
    assert (place / "f").read_bytes() == expected


def test_a_name_that_was_missing_is_there_once_it_is_made(place: Path) -> None:
    for _ in range(2):
        assert not (place / "f").exists()
    (place / "f").touch()
    assert (place / "f").exists()
    (place / "f").unlink()
    assert not (place / "f").exists()


def test_the_kernel_answers_by_itself_what_it_was_told_before(mount: Mount, place: Path) -> None:
    (place / "there").touch()
    assert not (place / "missing").exists()
    os.stat(place / "there")
    mount.order("break", "lookup", "bug")
    mount.order("break", "getattr", "bug")
    assert not (place / "missing").exists()
    os.stat(place / "there")
    with refused(errno.EIO):
        os.stat(place / "never asked for")
    mount.wait_logged("lookup failed")
    with opened(place / "there") as descriptor:
        os.write(descriptor, b"x")
    with refused(errno.EIO):
        os.stat(place / "there")
    mount.wait_logged("getattr failed")


def test_rename_over_an_open_file_leaves_that_to_who_has_it(place: Path) -> None:
    (place / "doc").write_bytes(b"old")
    with opened(place / "doc", os.O_RDWR) as descriptor:
        (place / "tmp").write_bytes(b"new")
        os.rename(place / "tmp", place / "doc")
        os.pwrite(descriptor, b"OLD!", 0)
        assert os.pread(descriptor, 10, 0) == b"OLD!"
        assert os.fstat(descriptor).st_nlink == 0
        assert (place / "doc").read_bytes() == b"new"


def test_rename_of_directories(place: Path) -> None:
    (place / "a/b").mkdir(parents=True)
    (place / "a/b/f").write_bytes(b"x")
    os.rename(place / "a", place / "c")
    assert (place / "c/b/f").read_bytes() == b"x"
    with refused(errno.EINVAL):
        os.rename(place / "c", place / "c/b/d")
    (place / "full").mkdir()
    (place / "full/f").touch()
    with refused(errno.ENOTEMPTY):
        os.rename(place / "c", place / "full")
    assert os.stat(place).st_nlink == 4


@pytest.mark.parametrize(
    ("flag", "is_there", "code"), [(1, True, errno.EEXIST), (2, False, errno.ENOENT)]
)
def test_renameat2_refuses_as_it_should(place: Path, flag: int, is_there: bool, code: int) -> None:
    (place / "a").touch()
    if is_there:
        (place / "b").touch()
    assert renameat2(place / "a", place / "b", flag) == code


def test_renameat2_exchanges(place: Path) -> None:
    (place / "a").write_bytes(b"a")
    (place / "b").mkdir()
    assert renameat2(place / "a", place / "b", 2) == 0
    assert (place / "a").is_dir()
    assert (place / "b").read_bytes() == b"a"


def renameat2(old: Path, new: Path, flags: int) -> int:
    done = libc.renameat2(-100, os.fsencode(old), -100, os.fsencode(new), flags)
    return ctypes.get_errno() if done else 0


def test_unlink_while_open(place: Path) -> None:
    with opened(place / "f") as descriptor:
        os.write(descriptor, b"still")
        os.unlink(place / "f")
        assert os.listdir(place) == []
        os.write(descriptor, b" here")
        assert os.pread(descriptor, 100, 0) == b"still here"
        os.ftruncate(descriptor, 2)
        assert os.fstat(descriptor).st_size == 2


def test_what_the_kernel_knows_from_a_listing_alone_outlives_its_name(mount: Mount) -> None:
    mount.order("found", "listed", "text")
    _wait_until(lambda: "listed" in os.listdir(mount.path))
    with opened(mount.path / "listed", os.O_PATH) as descriptor:
        os.unlink(mount.path / "listed")
        assert os.fstat(descriptor).st_nlink == 0


def test_mkdir_and_rmdir(place: Path) -> None:
    os.mkdir(place / "d", 0o700)
    assert stat.S_IMODE(os.stat(place / "d").st_mode) == 0o700
    (place / "d/f").touch()
    with refused(errno.ENOTEMPTY):
        os.rmdir(place / "d")
    with refused(errno.EISDIR):
        os.unlink(place / "d")
    with refused(errno.ENOTDIR):
        os.rmdir(place / "d/f")
    os.unlink(place / "d/f")
    os.rmdir(place / "d")
    assert os.listdir(place) == []


def test_symlinks(place: Path) -> None:
    os.symlink("target/ü", place / "s")
    assert os.readlink(place / "s") == "target/ü"
    assert os.lstat(place / "s").st_size == len("target/ü".encode())
    with refused(errno.ELOOP):
        os.open(place / "s", os.O_RDONLY | os.O_NOFOLLOW)


def test_hard_links_are_one_file(place: Path) -> None:
    (place / "a").write_bytes(b"x")
    os.link(place / "a", place / "b")
    (place / "b").write_bytes(b"both")
    os.chmod(place / "b", 0o600)
    assert (place / "a").read_bytes() == b"both"
    one, other = os.stat(place / "a"), os.stat(place / "b")
    assert (one.st_ino, one.st_mode, one.st_nlink) == (other.st_ino, other.st_mode, 2)
    os.unlink(place / "a")
    assert os.stat(place / "b").st_nlink == 1


def test_modes_owners_and_times_to_the_nanosecond(place: Path) -> None:
    path = place / "f"
    path.touch()
    os.chmod(path, 0o751)
    os.utime(path, ns=(1_111_111_111_111_111_111, 1_234_567_890_123_456_789))
    os.chown(path, os.getuid(), os.getgid())
    found = os.stat(path)
    assert stat.S_IMODE(found.st_mode) == 0o751
    assert (found.st_atime_ns, found.st_mtime_ns) == (
        1_111_111_111_111_111_111,
        1_234_567_890_123_456_789,
    )
    os.utime(path, ns=(0, -1_500_000_000))
    assert os.stat(path).st_mtime_ns == -1_500_000_000


def test_a_write_moves_mtime_and_ctime(place: Path) -> None:
    path = place / "f"
    path.touch()
    os.utime(path, ns=(0, 0))
    before = os.stat(path)
    path.write_bytes(b"x")
    after = os.stat(path)
    assert before.st_mtime_ns == 0 < after.st_mtime_ns
    assert after.st_ctime_ns >= before.st_ctime_ns
    assert after.st_atime_ns == 0


def test_what_is_touched_first_is_not_newer(place: Path) -> None:
    for number in range(50):
        with opened(place / f"{number}-a") as descriptor:
            os.utime(descriptor)
        (place / f"{number}-b").write_bytes(b"made after")
        first, second = os.stat(place / f"{number}-a"), os.stat(place / f"{number}-b")
        assert first.st_mtime_ns <= second.st_mtime_ns


def test_a_change_by_who_is_not_root_takes_setuid(place: Path) -> None:
    """For a write and truncate(2) the kernel asks for it; for O_TRUNC it leaves it to us."""
    (place / "f").write_bytes(b"x")
    place.chmod(0o777)
    nobody = 65534 if os.geteuid() == 0 else None
    write = ["dd", "if=/dev/zero", "of=f", "bs=1", "count=1", "status=none"]
    for command in ([*write, "conv=notrunc"], write, ["truncate", "-s", "7", "f"]):
        os.chmod(place / "f", 0o6777)
        subprocess.run(command, cwd=place, user=nobody, group=nobody, check=True)
        assert stat.S_IMODE(os.stat(place / "f").st_mode) == 0o777, command


def test_extended_attributes(place: Path) -> None:
    path = place / "f"
    path.touch()
    os.setxattr(path, "user.eins", b"\0x", os.XATTR_CREATE)
    with refused(errno.EEXIST):
        os.setxattr(path, "user.eins", b"y", os.XATTR_CREATE)
    with refused(errno.ENODATA):
        os.setxattr(path, "user.zwei", b"y", os.XATTR_REPLACE)
    os.setxattr(path, "user.eins", b"y", os.XATTR_REPLACE)
    assert os.listxattr(path) == ["user.eins"]
    assert os.getxattr(path, "user.eins") == b"y"
    os.removexattr(path, "user.eins")
    with refused(errno.ENODATA):
        os.getxattr(path, "user.eins")
    acl = bytes.fromhex("02000000 01000600ffffffff 04000400ffffffff 20000400ffffffff")
    for name, value in [("system.posix_acl_access", acl), ("security.x", b"x")]:
        with refused(errno.EOPNOTSUPP):
            os.setxattr(path, name, value)


def test_statfs_says_what_is_free_where_the_journal_is(mount: Mount) -> None:
    ours, disk = os.statvfs(mount.path), os.statvfs(mount.state)
    assert ours.f_blocks * ours.f_frsize == disk.f_blocks * disk.f_frsize
    assert abs(ours.f_bavail - disk.f_bavail) * ours.f_frsize < 1 << 30
    assert ours.f_namemax == 255


def test_stores_through_a_shared_map_arrive_with_msync(place: Path) -> None:
    with opened(place / "f") as descriptor:
        os.write(descriptor, bytes(100_000))
        with mmap.mmap(descriptor, 100_000) as shared:
            shared[50_000:50_005] = b"hello"
            shared.flush()
            with opened(place / "f", os.O_RDONLY) as other:
                assert os.pread(other, 5, 50_000) == b"hello"


def test_two_writers_that_append_lose_nothing(place: Path) -> None:
    code = (
        "import os, sys; d = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT)\n"
        "for n in range(200): os.write(d, (sys.argv[2] * 99 + chr(10)).encode())"
    )
    writers = [
        subprocess.Popen([sys.executable, "-c", code, str(place / "log"), letter])
        for letter in "ab"
    ]
    assert [writer.wait() for writer in writers] == [0, 0]
    lines = (place / "log").read_text().splitlines()
    assert sorted(lines) == ["a" * 99] * 200 + ["b" * 99] * 200


def test_a_fifo_carries_bytes(place: Path) -> None:
    os.mkfifo(place / "fifo")
    writer = threading.Thread(target=(place / "fifo").write_bytes, args=(b"through",))
    writer.start()
    assert (place / "fifo").read_bytes() == b"through"
    writer.join()
    assert stat.S_ISFIFO(os.stat(place / "fifo").st_mode)


def test_locks_are_kept_between_processes(place: Path) -> None:
    with opened(place / "f") as descriptor:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        fcntl.lockf(descriptor, fcntl.LOCK_EX)
        for call in ("flock", "lockf"):
            code = f"import fcntl; fcntl.{call}(open({str(place / 'f')!r}, 'r+'), 6)"
            done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
            assert b"BlockingIOError" in done.stderr, call


def test_a_large_directory_lists_each_name_once(place: Path) -> None:
    names = [f"{number:05}-{'n' * (number % 200)}" for number in range(3_000)]
    for name in names:
        os.mkdir(place / name)
    assert sorted(os.listdir(place)) == names
    seen = []
    with os.scandir(place) as entries:
        for count, entry in enumerate(entries):
            seen.append(entry.name)
            os.rmdir(place / entry.name)
            if count % 10 == 0:
                os.mkdir(place / f"new{count}")
    assert sorted(name for name in seen if not name.startswith("new")) == names
    assert {name for name in os.listdir(place) if not name.startswith("new")} == set()


def test_a_listing_shows_the_dots_and_inodes(place: Path) -> None:
    (place / "f").touch()
    lines = [line.split() for line in run("ls", "-ai", cwd=place).splitlines()]
    assert {name: number for number, name in lines} == {
        ".": str(os.stat(place).st_ino),
        "..": str(os.stat(place.parent).st_ino),
        "f": str(os.stat(place / "f").st_ino),
    }


@pytest.mark.parametrize("length", [255, 256])
def test_names_have_at_most_255_bytes(place: Path, length: int) -> None:
    path = place / ("n" * length)
    if length == 255:
        path.touch()
        return
    with refused(errno.ENAMETOOLONG):
        os.open(path, os.O_CREAT)
    with refused(errno.ENAMETOOLONG):
        os.stat(path)


def test_names_that_are_not_utf8(place: Path) -> None:
    name = os.fsencode(place) + b"/Pl\xe4ne\xff"
    os.close(os.open(name, os.O_CREAT))
    assert os.listdir(os.fsencode(place)) == [b"Pl\xe4ne\xff"]


def test_fsync_of_files_and_directories(place: Path) -> None:
    with opened(place / "f") as descriptor:
        os.write(descriptor, b"x")
        os.fsync(descriptor)
        os.fdatasync(descriptor)
    with opened(place, os.O_RDONLY) as descriptor:
        os.fsync(descriptor)


def test_what_the_kernel_can_not_ask_of_us_is_refused_or_emulated(place: Path) -> None:
    with refused(errno.EOPNOTSUPP):
        os.open(place, os.O_TMPFILE | os.O_WRONLY)
    with opened(place / "f") as descriptor:
        os.posix_fallocate(descriptor, 0, 10_000)
        assert os.fstat(descriptor).st_size == 10_000
        assert os.copy_file_range(descriptor, descriptor, 100, 0, 10_000) == 100


def test_another_tools_object_shows_at_once_though_the_kernel_knew_better(mount: Mount) -> None:
    path = mount.path / "theirs"
    assert not path.exists()
    for text in ("first", "second"):
        mount.order("found", "theirs", text)
        _wait_until(partial(_holds, path, text))
    with opened(path, os.O_RDONLY) as descriptor:
        mount.order("gone", "theirs")
        _wait_until(lambda: not path.exists())
        assert os.read(descriptor, 10) == b"second"


def _holds(path: Path, text: str) -> bool:
    return path.exists() and path.read_text() == text


def _wait_until(is_so: Callable[[], bool]) -> None:
    for _ in range(200):
        if is_so():
            return
        threading.Event().wait(0.01)
    raise AssertionError("the kernel still has what it knew")
