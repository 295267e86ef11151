"""Making, moving and removing names."""

import os
import stat
from errno import (
    EEXIST,
    EINVAL,
    EISDIR,
    ELOOP,
    ENAMETOOLONG,
    ENOENT,
    ENOTDIR,
    ENOTEMPTY,
    ENXIO,
    EPERM,
    ESTALE,
)

import pytest

from pdfs.core.ids import TOP, Inode
from pdfs.core.record import Kind
from tests.fs.stage import Stage


def test_a_name_that_is_not_there_is_none_and_counts_no_look_up(stage: Stage) -> None:
    assert stage.fs.lookup(TOP, b"missing") is None


def test_dots_can_be_looked_up(stage: Stage) -> None:
    stage.mkdir("d")
    ino = stage.stat("d").ino
    for name, expected in [(b".", ino), (b"..", TOP)]:
        found = stage.fs.lookup(ino, name)
        assert found is not None
        assert found.ino == expected


@pytest.mark.parametrize("length", [255, 256])
def test_a_name_may_have_255_bytes(stage: Stage, length: int) -> None:
    name = "ü" * 127 + "x" * (length - 254)
    if length == 255:
        stage.mkdir(name)
        assert stage.listdir() == [name]
        stage.rename(name, "n" * 255)
        return
    stage.mkdir("d")
    for call in (stage.mkdir, stage.stat, stage.unlink, lambda path: stage.rename("d", path)):
        with stage.refuses(ENAMETOOLONG):
            call(name)


@pytest.mark.parametrize("name", ["", ".", ".."])
def test_dots_can_not_be_made(stage: Stage, name: str) -> None:
    with stage.refuses(EINVAL):
        stage.fs.mkdir(TOP, name.encode(), 0o755, stage.user)


def test_bytes_that_are_not_utf8_stay_what_they_are(stage: Stage) -> None:
    name = os.fsdecode(b"Pl\xe4ne\xff")
    stage.mkdir(name)
    stage.symlink(name, "link")
    assert stage.listdir() == sorted(["link", name])
    assert stage.readlink("link") == name


@pytest.mark.parametrize(
    ("type_of_mode", "kind"),
    [
        (stat.S_IFREG, Kind.FILE),
        (0, Kind.FILE),
        (stat.S_IFIFO, Kind.FIFO),
        (stat.S_IFSOCK, Kind.SOCKET),
        (stat.S_IFCHR, Kind.CHARACTER),
        (stat.S_IFBLK, Kind.BLOCK),
    ],
)
def test_special_files_keep_kind_mode_and_device(
    stage: Stage, type_of_mode: int, kind: Kind
) -> None:
    stage.mknod("x", type_of_mode | 0o640, rdev=0x0103)
    node = stage.stat("x")
    assert (node.kind, node.mode) == (kind, 0o640)
    assert node.rdev == (0x0103 if kind in (Kind.CHARACTER, Kind.BLOCK) else 0)


def test_mknod_of_anything_else_is_refused(stage: Stage) -> None:
    with stage.refuses(EINVAL):
        stage.mknod("x", stat.S_IFDIR | 0o755)


def test_special_files_have_no_bytes_to_open_here(stage: Stage) -> None:
    stage.mknod("fifo", stat.S_IFIFO | 0o600)
    stage.symlink("x", "link")
    stage.mkdir("d")
    for path, code in [("fifo", ENXIO), ("link", ELOOP), ("d", EISDIR)]:
        with stage.refuses(code):
            stage.open(path)


def test_a_target_may_have_4095_bytes(stage: Stage) -> None:
    stage.symlink("t" * 4095, "link")
    assert stage.stat("link").size == 4095
    with stage.refuses(ENAMETOOLONG):
        stage.symlink("t" * 4096, "other")


def test_readlink_of_anything_else_is_refused(stage: Stage) -> None:
    with stage.refuses(EINVAL):
        stage.readlink("")


def test_a_new_node_belongs_to_who_made_it(stage: Stage) -> None:
    stage.anna().mkdir("d", 0o750)
    node = stage.stat("d")
    assert (node.uid, node.gid, node.mode) == (1001, 1002, 0o750)


def test_a_setgid_directory_gives_its_group_and_directories_the_bit(stage: Stage) -> None:
    stage.mkdir("d", 0o2775)
    anna = stage.anna()
    anna.mkdir("d/inner")
    anna.close(anna.open("d/file", os.O_CREAT | os.O_WRONLY))
    inner, file = stage.stat("d/inner"), stage.stat("d/file")
    assert (inner.uid, inner.gid, inner.mode) == (1001, 0, 0o2755)
    assert (file.uid, file.gid, file.mode) == (1001, 0, 0o644)


@pytest.mark.parametrize("path", ["d", "f"])
def test_a_name_that_is_taken_can_not_be_made(stage: Stage, path: str) -> None:
    stage.mkdir("d")
    stage.write_file("f", b"")
    for make in (
        lambda: stage.mkdir(path),
        lambda: stage.symlink("t", path),
        lambda: stage.mknod(path, 0o644),
        lambda: stage.link("f", path),
        lambda: stage.fs.create(TOP, path.encode(), 0o644, os.O_EXCL, stage.user),
    ):
        with stage.refuses(EEXIST):
            make()


def test_create_over_a_name_that_came_from_below_lets_the_kernel_look_again(stage: Stage) -> None:
    stage.write_file("theirs", b"")
    with stage.refuses(ESTALE):
        stage.fs.create(TOP, b"theirs", 0o644, os.O_WRONLY | os.O_CREAT, stage.user)


def test_only_directories_hold_names(stage: Stage) -> None:
    stage.write_file("f", b"")
    ino = stage.stat("f").ino
    for call in (
        lambda: stage.fs.lookup(ino, b"x"),
        lambda: stage.fs.mkdir(ino, b"x", 0o755, stage.user),
        lambda: stage.fs.unlink(ino, b"x"),
        lambda: stage.fs.rename(TOP, b"f", ino, b"x", 0),
        lambda: stage.fs.opendir(ino),
    ):
        with stage.refuses(ENOTDIR):
            call()


def test_a_number_that_nobody_has_is_stale(stage: Stage) -> None:
    with stage.refuses(ESTALE):
        stage.fs.getattr(Inode(77))


def test_a_link_is_a_second_name_of_the_same_file(stage: Stage) -> None:
    stage.write_file("f", b"x")
    stage.now += 1
    stage.link("f", "g")
    assert stage.stat("f") is stage.stat("g")
    assert (stage.stat("f").links, stage.stat("f").ctime) == (2, stage.now)
    stage.unlink("f")
    assert stage.stat("g").links == 1


def test_directories_and_removed_files_get_no_second_name(stage: Stage) -> None:
    stage.mkdir("d")
    with stage.refuses(EPERM):
        stage.link("d", "e")
    stage.write_file("f", b"")
    ino = stage.stat("f").ino
    stage.open("f")
    stage.unlink("f")
    with stage.refuses(ENOENT):
        stage.fs.link(ino, TOP, b"again")


def test_unlink_is_for_files_and_rmdir_for_empty_directories(stage: Stage) -> None:
    stage.mkdir("d")
    stage.write_file("d/f", b"")
    with stage.refuses(EISDIR):
        stage.unlink("d")
    with stage.refuses(ENOTEMPTY):
        stage.rmdir("d")
    with stage.refuses(ENOTDIR):
        stage.rmdir("d/f")
    with stage.refuses(ENOENT):
        stage.fs.unlink(TOP, b"missing")
    with stage.refuses(ENOENT):
        stage.fs.rmdir(TOP, b"missing")
    stage.unlink("d/f")
    stage.rmdir("d")
    assert stage.listdir() == []


def test_a_removed_directory_takes_no_names(stage: Stage) -> None:
    stage.mkdir("d")
    stage.write_file("f", b"")
    ino = stage.stat("d").ino
    handle = stage.fs.opendir(ino)
    stage.rmdir("d")
    with stage.refuses(ENOENT):
        stage.fs.mkdir(ino, b"x", 0o755, stage.user)
    with stage.refuses(ENOENT):
        stage.fs.rename(TOP, b"f", ino, b"x", 0)
    with stage.refuses(ENOENT):
        stage.fs.link(stage.stat("f").ino, ino, b"x")
    assert stage.fs.lookup(ino, b"x") is None
    stage.fs.releasedir(handle)


async def test_rename_takes_the_place_of_what_was_there(stage: Stage) -> None:
    stage.write_file("new", b"new")
    stage.write_file("old", b"old")
    stage.rename("new", "old")
    assert stage.listdir() == ["old"]
    assert await stage.read_file("old") == b"new"


def test_rename_noreplace_leaves_what_is_there(stage: Stage) -> None:
    stage.write_file("a", b"")
    stage.write_file("b", b"")
    with stage.refuses(EEXIST):
        stage.rename("a", "b", 1)
    stage.rename("a", "c", 1)
    assert stage.listdir() == ["b", "c"]


def test_rename_exchange_swaps_and_needs_both(stage: Stage) -> None:
    stage.mkdir("d")
    stage.write_file("d/f", b"")
    stage.write_file("g", b"")
    stage.rename("d", "g", 2)
    assert (stage.stat("d").kind, stage.listdir("g")) == (Kind.FILE, ["f"])
    assert stage.stat().links == 3
    with stage.refuses(ENOENT):
        stage.rename("d", "missing", 2)


@pytest.mark.parametrize("flags", [0, 2])
def test_a_directory_can_not_move_into_itself(stage: Stage, flags: int) -> None:
    stage.mkdir("a")
    stage.mkdir("a/b")
    stage.mkdir("a/b/c")
    with stage.refuses(EINVAL):
        stage.rename("a", "a/b/c", flags)


def test_a_directory_can_not_be_exchanged_with_one_inside_it(stage: Stage) -> None:
    stage.mkdir("a")
    stage.mkdir("a/b")
    with stage.refuses(EINVAL):
        stage.rename("a/b", "a", 2)
    with stage.refuses(ENOTEMPTY):
        stage.rename("a/b", "a")


def test_rename_replaces_like_with_like_only(stage: Stage) -> None:
    stage.mkdir("empty")
    stage.mkdir("full")
    stage.write_file("full/f", b"")
    stage.write_file("f", b"")
    for old, new, code in [
        ("empty", "f", ENOTDIR),
        ("f", "empty", EISDIR),
        ("empty", "full", ENOTEMPTY),
        ("missing", "f", ENOENT),
    ]:
        with stage.refuses(code):
            stage.rename(old, new)
    stage.rename("full", "empty")
    assert stage.listdir("empty") == ["f"]


@pytest.mark.parametrize("flags", [0, 2])
def test_rename_between_two_names_of_one_file_does_nothing(stage: Stage, flags: int) -> None:
    stage.write_file("a", b"")
    stage.link("a", "b")
    last = stage.ledger.last
    stage.rename("a", "b", flags)
    stage.rename("a", "a", flags)
    assert stage.listdir() == ["a", "b"]
    assert stage.ledger.last == last


@pytest.mark.parametrize("flags", [3, 4, 8])
def test_rename_refuses_flags_that_it_does_not_know(stage: Stage, flags: int) -> None:
    stage.write_file("a", b"")
    with stage.refuses(EINVAL):
        stage.rename("a", "b", flags)


def test_a_change_of_names_stamps_the_directory_and_the_node(stage: Stage) -> None:
    stage.mkdir("d")
    stage.write_file("f", b"")
    stage.now += 5
    stage.rename("f", "d/f")
    for path in ("", "d"):
        assert (stage.stat(path).mtime, stage.stat(path).ctime) == (stage.now, stage.now)
    assert (stage.stat("d/f").mtime, stage.stat("d/f").ctime) == (stage.now - 5, stage.now)
