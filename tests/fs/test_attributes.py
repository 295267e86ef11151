"""Modes, owners, sizes and times."""

import os
from errno import EFBIG, EINVAL, EISDIR

import pytest

from pdfs.fs.plan import Change
from tests.fs.stage import Stage


def test_nothing_to_set_is_no_change(stage: Stage) -> None:
    stage.write_file("f", b"")
    last, ctime = stage.ledger.last, stage.stat("f").ctime
    stage.now += 1
    stage.change("f", Change())
    assert (stage.ledger.last, stage.stat("f").ctime) == (last, ctime)


def test_chmod_sets_permissions_but_no_type(stage: Stage) -> None:
    stage.write_file("f", b"")
    stage.now += 1
    stage.chmod("f", 0o100000 | 0o4751)
    node = stage.stat("f")
    assert (node.mode, node.ctime, node.mtime) == (0o4751, stage.now, stage.now - 1)


@pytest.mark.parametrize(
    ("before", "after"),
    [(0o6755, 0o755), (0o4711, 0o711), (0o2711, 0o711), (0o2744, 0o2744), (0o1777, 0o1777)],
)
def test_chown_takes_setuid_and_setgid_of_a_file(stage: Stage, before: int, after: int) -> None:
    stage.write_file("f", b"")
    stage.chmod("f", before)
    stage.change("f", Change(uid=5))
    assert (stage.stat("f").mode, stage.stat("f").uid) == (after, 5)


def test_chown_leaves_the_bits_of_a_directory(stage: Stage) -> None:
    stage.mkdir("d", 0o2775)
    stage.change("d", Change(gid=7))
    assert (stage.stat("d").mode, stage.stat("d").gid) == (0o2775, 7)


def test_a_mode_that_comes_with_a_chown_is_the_mode(stage: Stage) -> None:
    stage.write_file("f", b"")
    stage.chmod("f", 0o4755)
    stage.change("f", Change(uid=5, mode=0o4700))
    assert stage.stat("f").mode == 0o4700


@pytest.mark.parametrize(("who", "mode"), [("root", 0o6755), ("anna", 0o755)])
def test_truncation_by_open_takes_setuid_unless_root_asks(
    stage: Stage, who: str, mode: int
) -> None:
    stage.write_file("f", b"x")
    stage.chmod("f", 0o6755)
    process = stage.anna() if who == "anna" else stage
    process.close(process.open("f", os.O_WRONLY | os.O_TRUNC))
    assert (stage.stat("f").mode, stage.stat("f").size) == (mode, 0)


async def test_truncation_cuts_and_extends_with_zeros_and_is_a_modification(stage: Stage) -> None:
    stage.write_file("f", b"abcdef")
    for size, content in [(3, b"abc"), (5, b"abc\0\0"), (5, b"abc\0\0"), (0, b"")]:
        stage.now += 1
        stage.truncate("f", size)
        assert await stage.read_file("f") == content
        assert (stage.stat("f").mtime, stage.stat("f").ctime) == (stage.now, stage.now)


def test_only_files_have_a_size_to_set(stage: Stage) -> None:
    stage.mkdir("d")
    stage.symlink("t", "s")
    stage.write_file("f", b"")
    for path, size, code in [("d", 0, EISDIR), ("s", 0, EINVAL), ("f", -1, EINVAL)]:
        with stage.refuses(code):
            stage.truncate(path, size)


def test_no_file_grows_beyond_the_largest_that_can_be_published(stage: Stage) -> None:
    stage.write_file("f", b"x" * 20)
    stage.fs = stage.filesystem(largest=10)
    handle = stage.open("f", os.O_RDWR)
    with stage.refuses(EFBIG):
        stage.pwrite(handle, b"12", 9)
    with stage.refuses(EFBIG):
        stage.truncate("f", 21)
    stage.pwrite(handle, b"1", 9)
    stage.truncate("f", 20)
    stage.truncate("f", 10)
    with stage.refuses(EFBIG):
        stage.truncate("f", 11)


async def test_a_file_of_8_eib_costs_nothing(stage: Stage) -> None:
    stage.fs = stage.filesystem(largest=(1 << 63) - 1)
    stage.write_file("f", b"x")
    stage.truncate("f", (1 << 63) - 1)
    handle = stage.open("f", os.O_RDWR)
    assert await stage.pread(handle, 3, (1 << 63) - 2) == b"\0"
    with stage.refuses(EFBIG):
        stage.pwrite(handle, b"12", (1 << 63) - 2)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (0, 0),
        (-1, -1),
        (1_234_567_890_123_456_789, 1_234_567_890_123_456_789),
        (1 << 70, (1 << 63) - 1),
        (-(1 << 70), -(1 << 63)),
    ],
)
def test_times_are_kept_to_the_nanosecond_in_64_bits(stage: Stage, given: int, kept: int) -> None:
    stage.write_file("f", b"")
    stage.now += 1
    stage.change("f", Change(atime=given, mtime=given))
    node = stage.stat("f")
    assert (node.atime, node.mtime, node.ctime) == (kept, kept, stage.now)


async def test_reading_changes_no_time_and_leaves_no_record(stage: Stage) -> None:
    stage.write_file("f", b"x")
    last, atime = stage.ledger.last, stage.stat("f").atime
    stage.now += 1
    await stage.read_file("f")
    stage.listdir()
    assert (stage.ledger.last, stage.stat("f").atime) == (last, atime)


def test_what_is_made_after_a_touch_is_not_older(stage: Stage) -> None:
    """The kernel's “now” is ahead of a coarse clock by less than a tick."""
    stage.write_file("touched", b"")
    stage.change("touched", Change(mtime=stage.now + 3_999_999))
    stage.write_file("made", b"")
    assert stage.stat("touched").mtime <= stage.stat("made").mtime
    stage.now += 4_000_000
    stage.write_file("later", b"")
    assert stage.stat("later").mtime == stage.now


def test_a_time_in_the_future_does_not_move_the_clock(stage: Stage) -> None:
    stage.write_file("f", b"")
    stage.change("f", Change(mtime=stage.now + 10_000_000))
    stage.write_file("g", b"")
    assert stage.stat("g").mtime == stage.now


def test_a_clock_that_is_set_back_is_followed(stage: Stage) -> None:
    stage.write_file("f", b"")
    stage.change("f", Change(mtime=stage.now + 5_000_000))
    stage.now -= 3_600 * 10**9
    stage.write_file("g", b"")
    assert stage.stat("g").mtime == stage.now


def test_statfs_is_what_the_disk_of_the_journal_says(stage: Stage) -> None:
    assert stage.fs.statfs().f_blocks == os.statvfs("/").f_blocks
