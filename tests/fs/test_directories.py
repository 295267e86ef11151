"""Listing directories."""

from pdfs.core.ids import TOP
from tests.fs.stage import Stage


def names(stage: Stage, handle: int, start: int = 0, most: int = 1000) -> list[bytes]:
    return [one.name for one, _ in zip(stage.fs.readdir(handle, start), range(most), strict=False)]


def test_a_listing_begins_with_the_dots(stage: Stage) -> None:
    stage.mkdir("d")
    stage.write_file("d/f", b"")
    ino = stage.stat("d").ino
    listed = list(stage.fs.readdir(stage.fs.opendir(ino), 0))
    assert [(one.name, one.node.ino, one.is_dot) for one in listed] == [
        (b".", ino, True),
        (b"..", TOP, True),
        (b"f", stage.stat("d/f").ino, False),
    ]


def test_the_top_is_above_itself(stage: Stage) -> None:
    listed = list(stage.fs.readdir(stage.fs.opendir(TOP), 0))
    assert [one.node.ino for one in listed] == [TOP, TOP]


def test_a_listing_goes_on_where_it_was_left(stage: Stage) -> None:
    for number in range(50):
        stage.write_file(f"{number:02}", b"")
    handle = stage.fs.opendir(TOP)
    whole = names(stage, handle)
    assert len(whole) == 52
    for step in (1, 2, 3, 7):
        found: list[bytes] = []
        start = 0
        while piece := list(zip(stage.fs.readdir(handle, start), range(step), strict=False)):
            found += [one.name for one, _ in piece]
            start = piece[-1][0].next
        assert found == whole


def test_names_that_come_and_go_meanwhile_move_no_other(stage: Stage) -> None:
    for number in range(10):
        stage.write_file(f"{number}", b"")
    handle = stage.fs.opendir(TOP)
    first = list(stage.fs.readdir(handle, 0))[:6]
    for gone in ("0", "3", "5", "8"):
        stage.unlink(gone)
    stage.write_file("new", b"")
    stage.rename("9", "6")
    rest = names(stage, handle, first[-1].next)
    assert [one.name for one in first] == [b".", b"..", b"0", b"1", b"2", b"3"]
    assert rest == [b"4", b"6", b"7"]


def test_a_listing_never_shows_what_a_name_stood_for_before(stage: Stage) -> None:
    stage.write_file("f", b"old")
    handle = stage.fs.opendir(TOP)
    list(stage.fs.readdir(handle, 0))
    stage.write_file("g", b"new")
    stage.rename("g", "f")
    (listed,) = stage.fs.readdir(handle, 2)
    assert listed.node is stage.stat("f")


def test_a_listing_from_the_beginning_shows_what_is_there_now(stage: Stage) -> None:
    handle = stage.fs.opendir(TOP)
    assert names(stage, handle) == [b".", b".."]
    stage.write_file("f", b"")
    assert names(stage, handle) == [b".", b"..", b"f"]


def test_a_removed_directory_is_empty(stage: Stage) -> None:
    stage.mkdir("d")
    handle = stage.fs.opendir(stage.stat("d").ino)
    stage.rmdir("d")
    assert names(stage, handle) == [b".", b".."]
