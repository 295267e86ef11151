"""The primitives on the real file system, and what is built of them when a call fails."""

import errno
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from pdfs.disk import (
    NEW_SUFFIX,
    Buffer,
    OsDisk,
    disk_error,
    lock_file,
    make_directory,
    make_path,
    opened,
    opened_directory,
    read_fully,
    replace_file,
    write_fully,
    zero_fill,
)
from pdfs.errors import DiskError, DiskFull
from tests.local.crashing_disk import CrashingDisk, PowerCuts, pending
from tests.local.faulty_disk import Fault, FaultyDisk
from tests.local.journals import directory_of

DISK = OsDisk()
CREATE = os.O_RDWR | os.O_CREAT


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[int]:
    with directory_of(tmp_path) as descriptor:
        yield descriptor


def flags_of(descriptor: int) -> int:
    return int(Path(f"/proc/self/fdinfo/{descriptor}").read_text().split()[3], 8)


# Primitives


def test_files_and_directories_are_private_whatever_the_umask(
    directory: int, tmp_path: Path
) -> None:
    old = os.umask(0)
    try:
        DISK.mkdir(directory, "sub")
        with opened(DISK, directory, "file", CREATE):
            pass
        replace_file(DISK, directory, "replaced", b"")
        make_directory(DISK, directory, "made")
        os.close(make_path(DISK, str(tmp_path / "a" / "b")))
    finally:
        os.umask(old)
    modes = {
        str(one.relative_to(tmp_path)): one.stat().st_mode & 0o777 for one in tmp_path.rglob("*")
    }
    assert modes == {
        "sub": 0o700,
        "file": 0o600,
        "replaced": 0o600,
        "made": 0o700,
        "a": 0o700,
        "a/b": 0o700,
    }


def test_no_descriptor_is_inherited_by_a_program(directory: int) -> None:
    with opened(DISK, directory, "file", CREATE) as file:
        below = DISK.open_directory(".", directory)
        for descriptor in (file, below):
            assert flags_of(descriptor) & os.O_CLOEXEC
        os.close(below)


def test_a_symlink_as_the_last_component_is_never_followed(directory: int, tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    (tmp_path / "file").write_text("untouched")
    (tmp_path / "to-directory").symlink_to("target")
    (tmp_path / "to-file").symlink_to("file")
    (tmp_path / "to-nothing").symlink_to("created")
    for name in ("to-file", "to-nothing"):
        with pytest.raises(OSError, match="symbolic links") as caught:
            DISK.open(directory, name, CREATE)
        assert caught.value.errno == errno.ELOOP
    with pytest.raises(NotADirectoryError):
        DISK.open_directory("to-directory", directory)
    with pytest.raises(NotADirectoryError):
        make_directory(DISK, directory, "to-directory")
    DISK.link(directory, "to-file", directory, "second")
    assert (tmp_path / "second").is_symlink()
    replace_file(DISK, directory, "to-file", b"a file now")
    assert (tmp_path / "file").read_text() == "untouched"
    assert not (tmp_path / "to-file").is_symlink()
    assert not (tmp_path / "created").exists()


def test_a_symlink_on_the_way_is_followed(tmp_path: Path) -> None:
    (tmp_path / "big-disk").mkdir()
    (tmp_path / "state").symlink_to("big-disk")
    os.close(make_path(DISK, str(tmp_path / "state" / "pdfs")))
    assert (tmp_path / "big-disk" / "pdfs").is_dir()


def test_make_path_refuses_a_file_on_the_way(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        make_path(DISK, str(tmp_path / "file" / "pdfs"))


def test_rename_noreplace_leaves_what_is_there(directory: int, tmp_path: Path) -> None:
    (tmp_path / "new").write_text("new")
    (tmp_path / "old").write_text("old")
    with pytest.raises(FileExistsError):
        DISK.rename_noreplace(directory, "new", directory, "old")
    assert (tmp_path / "old").read_text() == "old"
    DISK.rename_noreplace(directory, "new", directory, "free")
    assert (tmp_path / "free").read_text() == "new"
    with pytest.raises(FileNotFoundError, match="gone"):
        DISK.rename_noreplace(directory, "gone", directory, "x")


def test_rename_exchange_swaps_two_names(directory: int, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a").write_text("a")
    (tmp_path / "ü b").write_text("b")
    with opened_directory(DISK, directory, "sub") as below:
        DISK.rename_exchange(below, "a", directory, "ü b")
    assert ((tmp_path / "sub" / "a").read_text(), (tmp_path / "ü b").read_text()) == ("b", "a")
    with pytest.raises(FileNotFoundError):
        DISK.rename_exchange(directory, "ü b", directory, "gone")


def test_a_name_with_nul_is_refused(directory: int, tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    with pytest.raises(ValueError, match="null"):
        DISK.rename_exchange(directory, "a", directory, "a\0b")


def test_allocate_reserves_blocks_and_zero_fill_writes_them(directory: int) -> None:
    with opened(DISK, directory, "file", CREATE) as file:
        write_fully(DISK, file, [b"kept"], 0)
        DISK.allocate(file, 0, 1 << 20)
        assert os.fstat(file).st_blocks * 512 >= 1 << 20
        zero_fill(DISK, file, 4, (5 << 19) + 7)
        assert os.fstat(file).st_size == 4 + (5 << 19) + 7
        assert read_fully(file, 8, 0) == b"kept\0\0\0\0"


def test_utime_sets_now_by_the_file_system_or_what_is_given(directory: int) -> None:
    with opened(DISK, directory, "file", CREATE) as file:
        DISK.utime(file, 123_456_789_012_345_678)
        assert os.fstat(file).st_mtime_ns == 123_456_789_012_345_678
        DISK.utime(file)
        assert os.fstat(file).st_mtime_ns == os.fstat(file).st_ctime_ns


# Whole writes and reads


def test_write_fully_continues_short_and_interrupted_writes(directory: int) -> None:
    class Dribble(OsDisk):
        calls = 0

        def pwritev(self, descriptor: int, buffers: Sequence[Buffer], offset: int) -> int:
            self.calls += 1
            if self.calls % 3 == 0:
                raise InterruptedError
            return os.pwrite(descriptor, b"".join(buffers)[:3], offset)

    buffers: list[Buffer] = [b"", b"ab", memoryview(b"cdefg"), b"", bytearray(b"h"), b""]
    with opened(DISK, directory, "file", CREATE) as file:
        assert write_fully(Dribble(), file, buffers, 5) == 8
        assert read_fully(file, 99, 0) == bytes(5) + b"abcdefgh"


@pytest.mark.parametrize("error", [errno.EINTR, 0])
def test_write_fully_gives_up_on_a_disk_that_takes_nothing(directory: int, error: int) -> None:
    disk = FaultyDisk(Fault(at=1, error=error, for_ever=True, calls=frozenset({"pwritev"})))
    with (
        opened(disk, directory, "file", CREATE) as file,
        pytest.raises(OSError, match="takes no bytes"),
    ):
        write_fully(disk, file, [b"bytes"], 0)


def test_write_fully_of_nothing_makes_no_call(directory: int) -> None:
    disk = FaultyDisk()
    with opened(disk, directory, "file", CREATE) as file:
        assert write_fully(disk, file, [b"", b""], 0) == 0
    assert "pwritev" not in disk.made


def test_read_fully_is_short_only_at_the_end(
    directory: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"0123456789")
    real = os.pread
    with opened(DISK, directory, "file") as file:
        monkeypatch.setattr(os, "pread", lambda fd, n, offset: real(fd, min(n, 4), offset))
        assert read_fully(file, 9, 1) == b"123456789"
        assert read_fully(file, 100, 1) == b"123456789"
        assert read_fully(file, 5, 10) == b""


# Locks


def test_a_lock_excludes_other_openers_and_ends_with_its_descriptor(directory: int) -> None:
    with opened(DISK, directory, "lock", CREATE) as first:
        assert lock_file(first)
        with opened(DISK, directory, "lock", CREATE) as second:
            assert not lock_file(second)
    with opened(DISK, directory, "lock", CREATE) as third:
        assert lock_file(third, wait=True)


def test_a_lock_ends_with_its_process(directory: int, tmp_path: Path) -> None:
    script = (
        "import fcntl, os, sys; fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT);"
        "fcntl.flock(fd, fcntl.LOCK_EX); print('held', flush=True); sys.stdin.read()"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "lock")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with child, opened(DISK, directory, "lock", CREATE) as lock:
        assert child.stdout is not None
        assert child.stdout.readline() == b"held\n"
        assert not lock_file(lock)
        child.kill()
        child.wait()
        assert lock_file(lock)


# Replacing a file


def test_replace_file_syncs_the_content_before_and_the_name_after_the_rename(
    directory: int,
) -> None:
    disk = FaultyDisk()
    replace_file(disk, directory, "name", b"one ", memoryview(b"two"))
    assert [call for call in disk.made if call not in ("open", "unlink")] == [
        "pwritev",
        "fsync",
        "rename",
        "fsync",
    ]


def test_replace_file_writes_over_the_litter_of_a_crash(directory: int, tmp_path: Path) -> None:
    (tmp_path / f"name{NEW_SUFFIX}").write_bytes(b"x" * 10_000)
    replace_file(DISK, directory, "name", b"short")
    assert {one.name: one.read_bytes() for one in tmp_path.iterdir()} == {"name": b"short"}


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
@pytest.mark.parametrize("number", range(1, 7))
def test_replace_file_fails_with_the_old_file_in_place(
    directory: int, tmp_path: Path, number: int, error: int
) -> None:
    replace_file(DISK, directory, "name", b"old")
    disk = FaultyDisk(Fault(at=number, error=error, takes=50))
    with pytest.raises(OSError) as caught:  # noqa: PT011 - its errno is what counts
        replace_file(disk, directory, "name", b"new")
    assert caught.value.errno == error
    is_last = disk.made.count("fsync") == 2
    assert {one.name: one.read_bytes() for one in tmp_path.iterdir()} == {
        "name": b"new" if is_last else b"old"
    }


def test_after_any_power_cut_a_replaced_file_is_the_old_or_the_new_one(
    tmp_path: Path, seed: int
) -> None:
    disk = CrashingDisk(tmp_path)
    contents = [b"", b"first" * 300, b"second" * 500, b"third" * 100]
    done = [0]
    with directory_of(tmp_path) as directory:
        for content in contents[1:]:
            replace_file(disk, directory, "name", content)
            done.append(len(disk.log))
    assert pending(disk.log) == []
    checked = 0
    for cut, state in PowerCuts(disk, seed, tears=32).states():
        found = state.get("name", b"")
        newest = sum(cut >= when for when in done[1:])
        assert found in contents[newest : newest + 2], cut
        checked += 1
    assert checked > 30


@pytest.mark.parametrize("is_there", [False, True])
def test_a_made_directory_survives_power_loss_also_if_somebody_else_made_it(
    tmp_path: Path, is_there: bool
) -> None:
    disk = CrashingDisk(tmp_path)
    with directory_of(tmp_path) as directory:
        if is_there:
            disk.mkdir(directory, "sub")
            assert pending(disk.log) == [0]
        make_directory(disk, directory, "sub")
    assert pending(disk.log) == []


# Words


@pytest.mark.parametrize(
    ("code", "kind"),
    [(errno.ENOSPC, DiskFull), (errno.EDQUOT, DiskFull), (errno.EIO, DiskError), (None, DiskError)],
)
def test_a_disk_error_says_what_could_not_be_done(code: int | None, kind: type[DiskError]) -> None:
    error = OSError(code, os.strerror(code)) if code else OSError("odd")
    told = disk_error(error, "write the snapshot")
    assert type(told) is kind
    assert "write the snapshot" in str(told)
