"""What changes the tree without a request."""

import os

from pdfs.core.content import EMPTY, content_of
from pdfs.core.ids import TOP, Inode, ObjectName, Path, PublishId
from pdfs.core.record import (
    Create,
    Drop,
    Found,
    Gone,
    Kind,
    Link,
    Record,
    Rename,
    Settled,
    Unlink,
    Write,
)
from pdfs.fs.names import changed_names
from tests.fs.stage import Stage


def a_found(stage: Stage, name: str, data: bytes = b"theirs") -> Found:
    content = content_of(data)
    stage.contents[content] = data
    return Found(
        parent=TOP,
        name=name,
        path=Path(name),
        ino=stage.ledger.new_inode(),
        mode=0o644,
        uid=0,
        gid=0,
        mtime=7,
        time=stage.now,
        content=content,
    )


def a_rename(old: str, new: str) -> Rename:
    return Rename(parent=TOP, name=old, new_parent=Inode(9), new_name=new, time=0)


def test_the_names_that_a_record_changes(stage: Stage) -> None:
    found = a_found(stage, "f")
    create = Create(
        parent=TOP, name="c", ino=Inode(9), kind=Kind.FILE, mode=0, uid=0, gid=0, time=0
    )
    settled = Settled(
        publish=PublishId("p"),
        generation=1,
        tree=ObjectName("t"),
        contents=(EMPTY,),
        bases=(),
        known=(),
        moves=(a_rename("old", "new"),),
        found=(found,),
    )
    expected: list[tuple[Record, list[tuple[int, str]]]] = [
        (found, [(TOP, "f")]),
        (create, [(TOP, "c")]),
        (Unlink(parent=TOP, name="u", time=0), [(TOP, "u")]),
        (Link(ino=Inode(9), parent=TOP, name="l", time=0), [(TOP, "l")]),
        (a_rename("old", "new"), [(TOP, "old"), (Inode(9), "new")]),
        (Gone(path=Path("x/g"), parent=Inode(9), name="g", time=0), [(Inode(9), "g")]),
        (Gone(path=Path("x/g"), time=0), []),
        (settled, [(TOP, "old"), (Inode(9), "new"), (TOP, "f")]),
        (Write(ino=Inode(9), offset=0, time=0), []),
        (Drop(ino=Inode(9)), []),
    ]
    for record, names in expected:
        assert changed_names(record) == names


async def test_a_found_object_shows_and_its_name_goes_up(stage: Stage) -> None:
    stage.fs.commit_from_below(a_found(stage, os.fsdecode(b"\xff.dxf")))
    assert await stage.read_file(os.fsdecode(b"\xff.dxf")) == b"theirs"
    assert stage.invalidated == [(TOP, b"\xff.dxf")]


async def test_what_it_replaces_lives_on_for_who_has_it_open(stage: Stage) -> None:
    stage.write_file("f", b"ours")
    handle, ino = stage.open("f"), stage.stat("f").ino
    stage.fs.commit_from_below(a_found(stage, "f"))
    assert await stage.read_file("f") == b"theirs"
    assert await stage.pread(handle, 10, 0) == b"ours"
    stage.close(handle)
    assert ino not in stage.fs.tree.nodes


def test_what_nobody_uses_goes_at_once(stage: Stage) -> None:
    stage.fs.commit_from_below(a_found(stage, "f"))
    stage.fs.commit_from_below(Gone(path=Path("f"), parent=TOP, name="f", time=0))
    assert set(stage.fs.tree.nodes) == {TOP}
    assert stage.invalidated == [(TOP, b"f")] * 2


def test_requests_send_nothing_up(stage: Stage) -> None:
    stage.write_file("f", b"")
    stage.rename("f", "g")
    stage.unlink("g")
    assert stage.invalidated == []
