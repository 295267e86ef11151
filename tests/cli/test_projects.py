"""`pdfs import` and `pdfs ls` against a directory that plays the bucket."""

import json
import os
import stat
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import trio

from pdfs.cli.reading import Reading
from pdfs.config import Configuration
from pdfs.core.ids import Inode
from pdfs.errors import DiskError, StoreUnavailable
from pdfs.local.journal import Journal
from pdfs.local.journal_tasks import Preparation, Sealing
from pdfs.local.sizes import sizes_for
from pdfs.store import silence
from pdfs.store.directory import DirectoryStore
from tests.cli.conftest import Run


def test_an_imported_project_is_listed_without_a_mount(run: Run, imported: Path) -> None:
    assert run("ls").output == "Plant\n"
    assert run("ls", "Plant").output == "planning  generation 1\n"
    names = [line.split()[-1] for line in run("ls", "Plant/planning").output.splitlines()]
    assert names == ["drawings", "list.csv"]
    missing = run("ls", "Plant/planning/nothing")
    assert (missing.exit_code, "; pdfs ls -R Plant/planning lists" in missing.stderr) == (3, True)
    every = json.loads(run("ls", "Plant/planning", "-R", "--json").output)["entries"]
    assert [row["path"] for row in every] == ["drawings", "drawings/a.dxf", "list.csv"]
    (below,) = json.loads(run("ls", "Plant/planning/drawings", "--json").output)["entries"]
    assert (below["path"], below["size"]) == ("drawings/a.dxf", 6)


def test_an_import_keeps_links_modes_times_kinds_and_attributes(run: Run, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "tool.sh").write_text("#!/bin/sh\n")
    (source / "tool.sh").chmod(0o750)
    os.utime(source / "tool.sh", ns=(1, 1_600_000_000_123_456_789))
    os.link(source / "tool.sh", source / "same.sh")
    (source / "link").symlink_to("tool.sh")
    os.mkfifo(source / "pipe")
    with (source / "sparse").open("wb") as file:
        file.truncate(5 << 20)
    assert run("import", source, "Plant").exit_code == 0
    rows = json.loads(run("ls", "Plant/planning", "--json").output)["entries"]
    found = {row["path"]: row for row in rows}
    assert found["tool.sh"]["mode"] == "0750"
    assert found["same.sh"] == {**found["tool.sh"], "path": "same.sh"}
    assert found["tool.sh"]["mtime_ns"] == 1_600_000_000_123_456_789
    assert (found["link"]["kind"], found["link"]["target"]) == ("symlink", "tool.sh")
    assert found["pipe"]["kind"] == "fifo"
    assert found["sparse"]["size"] == 5 << 20


def test_a_project_that_exists_is_not_imported_into(run: Run, imported: Path) -> None:
    said = run("import", imported, "Plant")
    assert said.exit_code == 2
    assert "already" in said.stderr
    assert run("import", imported, "Plant", "--stage", "built").exit_code == 2


def test_an_import_that_fails_leaves_no_lock_no_session_and_no_files(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "a.dxf").write_text("drawn\n")
    (source / "b.dxf").write_text("drawn\n")
    real = os.fstat

    def grown(descriptor: int) -> os.stat_result:
        """As if another program had written to b.dxf while it was read."""
        status = real(descriptor)
        if status.st_ino == (source / "b.dxf").stat().st_ino and stat.S_ISREG(status.st_mode):
            return os.stat_result((*status[:6], status.st_size + 1, *status[7:]))
        return status

    with monkeypatch.context() as patch:
        patch.setattr(os, "fstat", grown)
        said = run("import", source, "Plant")
    assert said.exit_code == 8
    assert "b.dxf was changed while it was read" in said.stderr
    assert run("lock", "show", "Plant").output == "Plant/planning is not locked\n"
    assert run("recover", "list").output.startswith("nothing crashed here")
    assert run("ls", "Plant/planning").output == ""
    assert run("import", source, "Plant").exit_code == 0


def test_an_import_that_ends_after_it_has_read_all_is_a_crashed_session_like_others(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "a.dxf").write_text("drawn\n")

    async def fail(*_: object, **__: object) -> None:
        raise DiskError("the disk is gone")

    with monkeypatch.context() as patch:
        patch.setattr("pdfs.stage.publishing.publish", fail)
        assert run("import", source, "Plant").exit_code == 8
    listed = run("recover", "list").output
    assert "crashed" in listed
    assert "1 file (6 bytes) unpublished" in listed
    said = run("import", source, "Plant")
    assert said.exit_code == 9
    assert "pdfs recover resume" in said.stderr


def test_the_journal_of_an_import_is_sealed_piece_by_piece_while_it_is_read(
    run: Run, tmp_path: Path, configuration: Configuration, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So a recovery of it copies its last pieces alone, and not all that was imported."""
    source, sessions = tmp_path / "source", Path(configuration.state) / "sessions"
    source.mkdir()
    for number in range(3):
        (source / f"{number}").write_bytes(bytes([number + 1]) * (3 << 20))
    read, finish = Reading._copy_bytes, Journal.finish
    done, sealed = set[str](), list[str]()
    awaited = iter(("3 is there", "1 is sealed"))

    def finish_and_tell(self: Journal, task: Preparation | Sealing) -> None:
        finish(self, task)
        if isinstance(task, Sealing):
            done.update(f"{segment.number} is sealed" for segment in task.sealed)
        elif task.made is not None:
            done.add(f"{task.made.number} is there")

    async def read_and_wait(*given: Any) -> None:
        await read(*given)
        state = next(awaited, None)
        while state not in {None, *done}:  # noqa: ASYNC110 - the threads' ends are told to nobody
            await trio.sleep(0.01)
        sealed[:] = [path.name for path in sessions.glob("*/journal-*.wal")]

    monkeypatch.setattr(Journal, "finish", finish_and_tell)
    monkeypatch.setattr(Reading, "_copy_bytes", read_and_wait)
    monkeypatch.setattr("pdfs.mount.workspace.sizes_for", lambda free: sizes_for(16 << 20))
    assert run("import", source, "Plant").exit_code == 0
    assert "journal-1.wal" in sealed
    sizes = [line.split() for line in run("ls", "Plant/planning").output.splitlines()]
    assert [columns[-1] for columns in sizes] == ["0", "1", "2"]


@pytest.mark.parametrize("becomes", ["fifo", "nothing"])
def test_what_is_no_file_any_more_when_it_is_read_ends_an_import_in_words(
    becomes: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fifo that nobody writes to is not waited for."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "a").write_bytes(b"drawn")
    create = Reading._create

    def create_and_replace(*given: Any) -> Inode:
        (source / "a").unlink()
        if becomes == "fifo":
            os.mkfifo(source / "a")
        return create(*given)

    monkeypatch.setattr(Reading, "_create", create_and_replace)
    said = run("import", source, "Plant")
    assert said.exit_code == 8
    assert f"read {source / 'a'}" in said.stderr


def test_what_is_missing_is_told(run: Run, imported: Path, tmp_path: Path) -> None:
    for arguments, words in (
        (("ls", "Nothing"), "no project 'Nothing'"),
        (("ls", "Nothing/planning"), "no project 'Nothing'"),
        (("ls", "Plant/planning/none"), "no 'none' in Plant/planning"),
        (("ls", "Plant/none"), "project 'Plant' has no stage 'none'"),
        (("import", tmp_path / "none", "New"), "no directory"),
    ):
        said = run(*arguments)
        assert said.exit_code == 3
        assert words in said.stderr


def test_a_bucket_that_pdfs_never_wrote_is_listed_as_it_is(
    run: Run, configuration: Configuration
) -> None:
    bucket = Path(configuration.bucket.removeprefix("file://"))
    (bucket / "Foreign" / "planning" / "a").mkdir(parents=True)
    (bucket / "Foreign" / "planning" / "a" / "b.dxf").write_text("theirs")
    assert run("ls").output == "Foreign\n"
    assert run("ls", "Foreign").output == "planning  generation 0\n"
    rows = json.loads(run("ls", "Foreign/planning", "-R", "--json").output)["entries"]
    assert [(row["path"], row["kind"]) for row in rows] == [("a", "directory"), ("a/b.dxf", "file")]


def test_a_bucket_that_is_silent_is_told_on_stderr_alone(
    run: Run, imported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    look, tries = DirectoryStore.list_directories, list[str]()

    async def falter(self: DirectoryStore, prefix: str) -> AsyncIterator[Sequence[str]]:
        tries.append(prefix)
        if len(tries) == 1:
            raise StoreUnavailable("no route\x1b[2J")
        async for page in look(self, prefix):
            yield page

    monkeypatch.setattr(silence, "LONG", 0.01)
    monkeypatch.setattr(DirectoryStore, "list_directories", falter)
    said = run("ls", "--json")
    assert json.loads(said.stdout)["projects"] == ["Plant"]
    assert said.stderr.startswith("still waiting for file:///")
    assert said.stderr.endswith(": no route\\x1b[2J\n")
    assert said.stderr.count("\n") == 1


def test_names_that_another_tool_made_can_not_command_the_terminal(
    run: Run, imported: Path, configuration: Configuration
) -> None:
    stage = Path(configuration.bucket.removeprefix("file://")) / "Foreign" / "planning"
    stage.mkdir(parents=True)
    (stage / "\x1b[2Jred\nline").write_text("drawn")
    (row,) = run("ls", "Foreign/planning").output.splitlines()
    assert row.endswith(" \\x1b[2Jred\\nline")
    (entry,) = json.loads(run("ls", "Foreign/planning", "--json").output)["entries"]
    assert entry["path"] == "\x1b[2Jred\nline"
