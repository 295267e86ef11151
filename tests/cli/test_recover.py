"""`pdfs recover` with what can't be: refused in words with a remedy, and nothing is changed."""

import errno
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from pdfs.cli import rescue
from pdfs.config import Configuration
from pdfs.core.content import ETag, Plain, content_of
from pdfs.core.ids import TOP, Inode
from pdfs.core.ids import Path as StagePath
from pdfs.core.record import Kind
from pdfs.core.tree import new_tree
from pdfs.disk import Buffer, Disk, write_fully
from pdfs.local.journal_format import HEADER_SIZE
from pdfs.local.recovery import Recovered, recover
from pdfs.local.session_directory import SessionDirectory
from pdfs.local.state import StateDirectory
from pdfs.stage.context import StageContext
from pdfs.stage.root import SeenRoot, read_root
from tests.cli.conftest import Run
from tests.cli.daemons import OTHER, SESSION, daemon, description, session_of
from tests.local.left import leave_crashed

FILES = {"list": b"drawn", "model": bytes(range(256)) * 512}


@pytest.fixture
def crashed(configuration: Configuration) -> Iterator[dict[str, bytes]]:
    """What a crashed session consists of; it is the same afterwards."""
    leave_crashed(configuration.state, description(configuration), SESSION, FILES)
    before = files_of(configuration)
    assert before
    yield before
    assert files_of(configuration) == before, "the session is not what it was"


def files_of(configuration: Configuration) -> dict[str, bytes]:
    path = Path(configuration.state, "sessions", SESSION)
    return {str(file): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def test_show_names_what_was_renamed_and_removed(
    run: Run, configuration: Configuration, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_crashed(configuration.state, description(configuration), SESSION, {"new": b"drawn"})
    unchanged = recover

    def with_names(disk: Disk, directory: SessionDirectory) -> Recovered | None:
        found = unchanged(disk, directory)
        assert found is not None
        published = new_tree(uid=0, gid=0)
        for name in ("old", "gone"):
            path = StagePath(name)
            content = content_of(name.encode()).with_plain(Plain(path, ETag(name)))
            found.tree.known[path] = content
            if name == "old":
                ino = Inode(1 << 40)
                node = replace(published.nodes[TOP], ino=ino, kind=Kind.FILE, entries={}, links=1)
                node.load(content)
                found.tree.nodes[ino] = node
                found.tree.nodes[TOP].entries["renamed"] = ino
        return found

    monkeypatch.setattr("pdfs.cli.crashed.recover", with_names)
    said = run("recover", "show", SESSION[:8])
    assert said.exit_code == 0
    assert said.stdout.splitlines()[-3:] == ["  new", "renamed: old -> renamed", "removed: gone"]
    told = json.loads(run("recover", "show", SESSION[:8], "--json").stdout)
    assert (told["changed"], told["renamed"], told["removed"]) == (
        ["new"],
        {"renamed": "old"},
        ["gone"],
    )


def test_damage_in_a_journal_is_told_wherever_its_session_is(
    run: Run, configuration: Configuration
) -> None:
    leave_crashed(configuration.state, description(configuration), SESSION, FILES)
    (segment,) = Path(configuration.state, "sessions", SESSION).glob("journal-*.wal*")
    raw = bytearray(segment.read_bytes())
    raw[HEADER_SIZE + 50] ^= 0xFF  # in the first record
    segment.write_bytes(raw)
    said = run("recover", "list")
    assert (said.exit_code, said.stdout.count("unpublished; damage: ")) == (0, 1)
    damage = said.stdout.partition("damage: ")[2].strip()
    assert f"  damage      {damage}\n" in run("status").stdout
    shown = run("recover", "show", SESSION[:8])
    assert (shown.exit_code, damage in shown.stderr) == (11, True)


def test_operations_that_a_torn_end_of_the_journal_took_are_told(
    run: Run, configuration: Configuration
) -> None:
    leave_crashed(configuration.state, description(configuration), SESSION, FILES)
    assert "\ntorn  " not in run("recover", "show", SESSION).stdout
    (segment,) = Path(configuration.state, "sessions", SESSION).glob("journal-1.wal*")
    records = [json.loads(line) for line in run("journal", "dump", segment).stdout.splitlines()]
    made = [each["offset"] for each in records if each.get("kind") == "create"]
    raw = bytearray(segment.read_bytes())
    raw[made[-1] + 40] ^= 0xFF
    segment.write_bytes(raw)
    shown = run("recover", "show", SESSION)
    assert shown.exit_code == 0
    assert "\ntorn         2 operations or more at its end are lost" in shown.stdout
    told = json.loads(run("recover", "show", SESSION, "--json").stdout)["torn"]
    assert f"at byte {made[-1]}: after a power cut that is normal" in told


@pytest.mark.parametrize("command", [("status",), ("recover", "list")], ids=" ".join)
@pytest.mark.parametrize("is_kept", [False, True], ids=["and lets go of it", "and goes on with it"])
def test_who_looks_at_a_session_keeps_no_mount_from_it(
    command: tuple[str, ...],
    is_kept: bool,
    run: Run,
    configuration: Configuration,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A replay takes seconds, and a mount comes in between."""
    leave_crashed(configuration.state, description(configuration), SESSION, FILES)
    unchanged, taken = recover, []

    def with_a_mount(disk: Disk, directory: SessionDirectory) -> Recovered | None:
        with StateDirectory(disk, configuration.state) as state:
            taken.append(state.open_session(SESSION))
        if not is_kept:
            taken[0].close()
        return unchanged(disk, directory)

    monkeypatch.setattr("pdfs.cli.crashed.recover", with_a_mount)
    said = run(*command)
    taken[0].close()
    assert said.exit_code == 0, said.stderr
    assert ("2 files" in said.stdout) == (not is_kept)
    assert ("belongs to a PDFS that is running" in said.stdout) == is_kept


@pytest.mark.usefixtures("crashed")
@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("show", "nosuch"), 3, "is called 'nosuch'; pdfs recover list"),
        (("resume", "nosuch"), 3, "is called 'nosuch'; pdfs recover list"),
        (("discard", "nosuch"), 3, "is called 'nosuch'; pdfs recover list"),
        (("rescue", "nosuch", "there"), 3, "is called 'nosuch'; pdfs recover list"),
        (("undo", "nosuch"), 3, "nothing was discarded on this machine"),
        (("undo", SESSION[:8]), 3, "nothing was discarded on this machine"),
        (("discard", SESSION[:8]), 2, "out of reach of a publish; add --yes"),
        (("rescue", SESSION[:8], "/proc/nothing"), 8, "can't be made: No such file or directory"),
        (("show", OTHER[:8]), 4, "in the hands of another process"),
        (("resume", OTHER[:8]), 4, "in the hands of another process"),
        (("discard", OTHER[:8], "--yes"), 4, "in the hands of another process"),
        (("rescue", OTHER[:8], "there"), 4, "in the hands of another process"),
    ],
)
def test_what_can_not_be_is_refused(
    arguments: tuple[str, ...],
    code: int,
    words: str,
    run: Run,
    configuration: Configuration,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    with session_of(configuration, OTHER, stage="built"):
        said = run("recover", *arguments)
    assert (said.exit_code, said.stdout) == (code, "")
    assert words in said.stderr
    assert said.stderr.count("\n") == 1
    assert not (tmp_path / "there").exists()


@pytest.mark.usefixtures("crashed")
def test_a_rescue_goes_to_a_directory_that_is_new_or_empty_and_not_ours(
    run: Run, configuration: Configuration, tmp_path: Path
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("mine")
    (tmp_path / "link").symlink_to(configuration.state)
    state = Path(configuration.state)
    for directory, words in (
        (tmp_path / "full", "is not empty; name a new directory"),
        (tmp_path / "full" / "file", "is no directory; name a new directory"),
        (tmp_path / "full" / "file" / "below", "is no directory; name a new directory"),
        (state / "sessions" / SESSION / "rescued", "where PDFS keeps its own files"),
        (state / "trash" / "rescued", "where PDFS keeps its own files"),
        (Path(configuration.cache, "rescued"), "where PDFS keeps its own files"),
        (tmp_path / "link" / "rescued", "where PDFS keeps its own files"),
    ):
        said = run("recover", "rescue", SESSION, directory)
        assert (said.exit_code, words in said.stderr) == (2, True), said.stderr
    assert (tmp_path / "full" / "file").read_text() == "mine"
    assert not list(tmp_path.rglob("rescued"))


@pytest.mark.parametrize(
    "arguments", [("show",), ("resume",), ("discard", "--yes"), ("rescue",)], ids=lambda it: it[0]
)
def test_a_session_that_is_mounted_is_named_with_its_mountpoint(
    arguments: tuple[str, ...], run: Run, configuration: Configuration, tmp_path: Path
) -> None:
    where = [str(tmp_path / "there")] if arguments == ("rescue",) else []
    with daemon(configuration, {}):
        said = run("recover", arguments[0], SESSION[:8], *where, *arguments[1:])
    assert said.exit_code == 4
    assert "is mounted at /mnt/plant; pdfs umount /mnt/plant" in said.stderr
    assert not (tmp_path / "there").exists()


def test_nobody_resumes_a_session_that_is_being_discarded(
    run: Run, configuration: Configuration, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the stage would be taken from under the mount that has just resumed it."""
    leave_crashed(configuration.state, description(configuration), SESSION, FILES)
    unchanged, refused = read_root, []

    async def while_another_tries(ctx: StageContext) -> SeenRoot | None:
        refused.append(run("recover", "resume", SESSION[:8]))
        return await unchanged(ctx)

    monkeypatch.setattr("pdfs.cli.discarding.read_root", while_another_tries)
    said = run("recover", "discard", SESSION[:8], "--yes")
    assert said.exit_code == 0, said.stderr
    (resume,) = refused
    assert (resume.exit_code, "discards it" in resume.stderr) == (4, True)
    assert "recover undo" in run("recover", "list").stdout


@pytest.mark.usefixtures("crashed")
def test_a_rescue_to_a_full_disk_says_so_and_leaves_nothing_that_looks_whole(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(disk: Disk, descriptor: int, buffers: Sequence[Buffer], offset: int) -> int:
        if len(buffers[0]) > len(FILES["list"]):
            os.pwrite(descriptor, buffers[0][:4096], offset)
            raise OSError(errno.ENOSPC, "No space left on device")
        return write_fully(disk, descriptor, buffers, offset)

    monkeypatch.setattr(rescue, "write_fully", write)
    said = run("recover", "rescue", SESSION, tmp_path / "rescued")
    assert said.exit_code == 8
    assert "no room to write 'model'" in said.stderr
    there = {path.name: path.read_bytes() for path in (tmp_path / "rescued").iterdir()}
    assert there == {"list": FILES["list"], "model.incomplete": FILES["model"][:4096]}


@pytest.mark.usefixtures("crashed")
def test_a_bad_sector_keeps_nobody_from_the_rest_and_is_told(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is published, or let go of, by itself: the disk may read it the next time."""
    fail_behind(HEADER_SIZE + 8192, monkeypatch)
    said = run("recover", "show", SESSION[:8])
    assert said.exit_code == 8
    assert "can't read the journal: Input/output error; nothing was changed" in said.stderr
    assert f"pdfs recover rescue {SESSION[:8]} DIR" in said.stderr
    said = run("recover", "rescue", SESSION[:8], tmp_path / "rescued")
    assert said.exit_code == 11
    assert "what was copied is not all of it, for the journal is damaged" in said.stderr
    assert (tmp_path / "rescued" / "list").read_bytes() == FILES["list"]
    assert run("recover", "list").exit_code == 0


def test_a_session_with_a_bad_sector_can_be_discarded(
    run: Run, configuration: Configuration, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_crashed(configuration.state, description(configuration), SESSION, FILES)
    before = files_of(configuration)
    with monkeypatch.context() as broken:
        fail_behind(HEADER_SIZE + 8192, broken)
        said = run("recover", "discard", SESSION[:8], "--yes")
    assert said.exit_code == 0, said.stderr
    assert "it is kept as it is: can't read the journal: Input/output error" in said.stderr
    assert run("recover", "undo", SESSION[:8]).exit_code == 0
    assert files_of(configuration) == before


def fail_behind(offset: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on, one page of each segment can't be read."""
    unchanged = os.pread

    def pread(descriptor: int, length: int, at: int) -> bytes:
        is_segment = "/journal-" in os.readlink(f"/proc/self/fd/{descriptor}")
        if is_segment and at <= offset < at + length:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return unchanged(descriptor, length, at)

    monkeypatch.setattr(os, "pread", pread)


@pytest.mark.usefixtures("crashed")
def test_a_rescue_of_a_damaged_journal_says_that_it_is_not_all(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unchanged = os.pread

    def pread(descriptor: int, length: int, at: int) -> bytes:
        raw = unchanged(descriptor, length, at)
        is_segment = "/journal-" in os.readlink(f"/proc/self/fd/{descriptor}")
        return raw.replace(b"drawn", b"druwn") if is_segment else raw

    monkeypatch.setattr(os, "pread", pread)
    said = run("recover", "rescue", SESSION[:8], tmp_path / "rescued")
    assert said.exit_code == 11
    assert "not all of it, for the journal is damaged: journal-1.wal" in said.stderr


def test_undo_brings_back_once_and_never_over_another(
    run: Run, configuration: Configuration, tmp_path: Path
) -> None:
    leave_crashed(configuration.state, description(configuration), SESSION, FILES)
    discarded = run("recover", "discard", SESSION, "--yes")
    assert discarded.exit_code == 0, discarded.stderr
    leave_crashed(configuration.state, description(configuration), SESSION, {"other": b"work"})
    for _ in range(2):
        said = run("recover", "undo", SESSION)
        assert said.exit_code == 2
        assert "there are two of session" in said.stderr
        assert "nothing was moved; move one of them away" in said.stderr
    moved = Path(configuration.state, "sessions", SESSION).rename(tmp_path / "moved")
    said = run("recover", "show", SESSION)
    assert said.exit_code == 3
    assert f"it is in the trash: pdfs recover undo {SESSION[:8]} brings it back" in said.stderr
    moved.rename(Path(configuration.state, "sessions", SESSION))
    trash = Path(configuration.state, "trash", SESSION)
    work = Path(configuration.state, "sessions", SESSION).rename(trash.with_name("away"))
    assert "is back" in run("recover", "undo").stdout
    assert "2 files" in run("recover", "list").stdout
    assert run("recover", "undo").exit_code == 3
    assert work.is_dir()
