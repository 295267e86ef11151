"""How long a node without a name lives."""

import os
from pathlib import Path

from pdfs.core.ids import TOP
from pdfs.core.record import Drop
from tests.fs.sessions import replayed
from tests.fs.stage import Stage


async def test_an_unlinked_file_lives_until_its_last_handle_is_closed(stage: Stage) -> None:
    stage.write_file("f", b"x")
    handles = [stage.open("f"), stage.open("f", os.O_RDWR)]
    ino = stage.stat("f").ino
    stage.unlink("f")
    assert stage.stat().entries == {}
    stage.pwrite(handles[1], b"yz", 1)
    stage.close(handles[1])
    assert await stage.pread(handles[0], 10, 0) == b"xyz"
    assert stage.fs.getattr(ino).links == 0
    stage.close(handles[0])
    assert ino not in stage.fs.tree.nodes


def test_an_unlinked_file_lives_until_the_kernel_forgets_it(stage: Stage) -> None:
    stage.write_file("f", b"x")
    ino = stage.stat("f").ino
    for _ in range(3):
        stage.fs.lookup(TOP, b"f")
    stage.fs.unlink(TOP, b"f")
    stage.fs.forget([(ino, 2)])
    assert ino in stage.fs.tree.orphans
    stage.fs.forget([(ino, 1)])
    assert ino not in stage.fs.tree.nodes


def test_every_answer_with_a_node_counts_one_look_up(stage: Stage) -> None:
    fs, user = stage.fs, stage.user
    answers = [
        fs.mkdir(TOP, b"d", 0o755, user),
        fs.symlink(TOP, b"s", b"t", user),
        fs.mknod(TOP, b"n", 0o644, 0, user),
        fs.create(TOP, b"c", 0o644, os.O_RDWR, user)[1],
    ]
    fs.releasedir(fs.opendir(TOP))
    for handle in (1,):
        fs.release(handle)
    linked = fs.link(answers[2].ino, TOP, b"l")
    assert linked is answers[2]
    fs.rmdir(TOP, b"d")
    for name in (b"s", b"n", b"l", b"c"):
        fs.unlink(TOP, name)
    assert fs.tree.orphans == {node.ino for node in answers}
    fs.forget([(node.ino, 1) for node in answers])
    assert fs.tree.orphans == {linked.ino}
    fs.forget([(linked.ino, 1)])
    assert set(fs.tree.nodes) == {TOP}


def test_an_entry_of_a_listing_counts_when_the_kernel_took_it(stage: Stage) -> None:
    stage.write_file("f", b"")
    ino = stage.stat("f").ino
    handle = stage.fs.opendir(TOP)
    for listed in stage.fs.readdir(handle, 0):
        if not listed.is_dot:
            stage.fs.note_lookup(listed.node.ino)
    stage.fs.unlink(TOP, b"f")
    assert ino in stage.fs.tree.orphans
    stage.fs.forget([(ino, 1)])
    assert ino not in stage.fs.tree.nodes


def test_a_removed_directory_lives_while_it_is_open(stage: Stage) -> None:
    stage.mkdir("d")
    ino = stage.stat("d").ino
    handle = stage.fs.opendir(ino)
    stage.rmdir("d")
    assert stage.fs.getattr(ino).links == 0
    stage.fs.releasedir(handle)
    assert ino not in stage.fs.tree.nodes


def test_a_file_that_is_replaced_goes_with_its_last_name(stage: Stage) -> None:
    stage.write_file("a", b"")
    stage.write_file("b", b"")
    stage.link("b", "c")
    ino = stage.stat("b").ino
    stage.rename("a", "b")
    assert stage.stat("c").ino == ino
    stage.rename("b", "c")
    assert ino not in stage.fs.tree.nodes


def test_a_crash_leaves_orphans_which_the_next_end_drops(stage: Stage, tmp_path: Path) -> None:
    stage.write_file("f", b"x")
    stage.open("f")
    stage.unlink("f")
    tree = replayed(tmp_path)
    assert len(tree.orphans) == 1
    stage.fs.end()
    stage.fs.end()
    assert stage.fs.busy() == set()
    tree = replayed(tmp_path)
    assert set(tree.nodes) == set(stage.fs.tree.nodes) == {TOP}


def test_a_drop_is_a_record_and_comes_after_its_unlink(stage: Stage) -> None:
    stage.write_file("f", b"")
    committed: list[type] = []
    commit = stage.ledger.commit

    def note(record: object, data: bytes = b"") -> object:
        committed.append(type(record))
        return commit(record, data)  # type: ignore[arg-type]  # whatever the other gives it

    stage.ledger.commit = note  # type: ignore[method-assign, assignment]  # a spy on one object
    stage.unlink("f")
    assert committed[-1] is Drop
    assert len(committed) == 2


def test_forgetting_what_nobody_knows_is_harmless(stage: Stage) -> None:
    stage.write_file("f", b"")
    stage.fs.forget([(stage.stat("f").ino, 100), (TOP, 5)])
    assert stage.listdir() == ["f"]
