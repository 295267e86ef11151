"""kill -9 of the daemon, and what a mount after it finds."""

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.e2e.conftest import MakeMachine
from tests.e2e.machines import DEMO_FILES, LIMIT, PDFS, PROJECT, Bucket, Machine, end_process

FILES = 1000
FEWEST_CLOSES = 100
ROUNDS, ROUNDS_IN_FULL = 1, 20


def copy_until_killed(source: Path, here: Machine, log: Path, closes: int) -> list[str]:
    """Copy into the mount, kill the daemon after so many closes; the names closed by then.

    The list is written and synced by the process that copies, outside of the mount.
    """
    (session,) = here.sessions()
    target = here.mountpoint / "copied"
    target.mkdir()
    log.touch()
    command = [sys.executable, str(DEMO_FILES), "copy", str(source), str(target), str(log)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as copying:
        deadline = time.monotonic() + LIMIT
        while len(log.read_text().splitlines()) < closes:
            assert copying.poll() is None, "the copy ended before it was to be interrupted"
            assert time.monotonic() < deadline, "the copy does not get on"
            time.sleep(0.001)
        end_process(session["pid"])
    assert copying.returncode != 0, "the copy was over before the daemon was killed"
    return log.read_text().splitlines()


@pytest.mark.timeout(1200)
def test_no_file_whose_close_had_returned_is_lost_by_kill_9(
    bucket: Bucket, machine: MakeMachine, tmp_path: Path, seed: int, is_full: bool
) -> None:
    rng = random.Random(seed)
    source = tmp_path / "source"
    source.mkdir()
    for number in range(FILES):
        (source / f"isometric-{number:04}.dxf").write_bytes(rng.randbytes(rng.randrange(20_000)))
    here = machine(bucket)
    for number in range(ROUNDS_IN_FULL if is_full else ROUNDS):
        here.mount("--create")
        closes = rng.randrange(FEWEST_CLOSES, FILES // 2)
        closed = copy_until_killed(source, here, tmp_path / f"closed-{number}", closes)
        mounted = here.mount()
        for name in closed:
            found = (mounted / "copied" / name).read_bytes()
            assert found == (source / name).read_bytes(), f"{name}, round {number}"
        here.pdfs("umount", mounted)
        assert bucket.directory is not None
        plain = bucket.directory / PROJECT / "planning" / "copied"
        for name in closed:
            assert (plain / name).read_bytes() == (source / name).read_bytes(), name
        here.mount()
        subprocess.run(["rm", "-r", mounted / "copied"], check=True)
        here.pdfs("umount", mounted)


def test_a_crashed_session_is_shown_rescued_discarded_brought_back_and_published(
    bucket: Bucket, machine: MakeMachine, tmp_path: Path
) -> None:
    here = machine(bucket)
    mounted = here.mount("--create")
    (mounted / "drawing.dxf").write_text("drawn\n")
    here.kill()

    assert "  crashed  " in here.pdfs("status")
    ended = here.run("umount", mounted)
    assert (ended.code, ended.out) == (9, "")
    assert "pdfs recover resume" in ended.err
    assert not mounted.is_mount()
    assert "1 file (6 bytes) unpublished" in here.pdfs("recover", "list")
    assert "drawing.dxf" in here.pdfs("recover", "show", PROJECT)
    here.pdfs("recover", "rescue", PROJECT, tmp_path / "rescued")
    assert (tmp_path / "rescued" / "drawing.dxf").read_text() == "drawn\n"
    here.pdfs("recover", "discard", PROJECT, "--yes")
    assert "is not locked" in here.pdfs("lock", "show", PROJECT)
    here.pdfs("recover", "undo")
    here.pdfs("recover", "resume", PROJECT)
    assert "drawing.dxf" in here.pdfs("ls", f"{PROJECT}/planning")
    assert "nothing crashed here" in here.pdfs("recover", "list")


def test_a_crashed_session_that_the_next_mount_discards_comes_back_without_the_bucket(
    bucket: Bucket, machine: MakeMachine
) -> None:
    here = machine(bucket)
    (here.mount("--create") / "list.csv").write_text("1;2;3\n")
    here.pdfs("umount", PROJECT)
    mounted = here.mount()
    with (mounted / "list.csv").open("r+b") as file:
        file.write(b"4")
    here.kill()
    here.mount("--discard")
    assert (mounted / "list.csv").read_text() == "1;2;3\n"
    here.pdfs("umount", mounted)
    assert "discarded" in here.pdfs("recover", "list")
    here.pdfs("recover", "undo")
    assert bucket.directory is not None
    bucket.directory.rename(bucket.directory.with_name("away"))
    here.pdfs("recover", "rescue", PROJECT, here.home / "rescued")
    assert (here.home / "rescued" / "list.csv").read_text() == "4;2;3\n"


def test_an_import_that_is_killed_while_it_reads_is_no_project_and_can_begin_anew(
    bucket: Bucket, machine: MakeMachine, tmp_path: Path
) -> None:
    here = machine(bucket)
    source = tmp_path / "source"
    source.mkdir()
    (source / "drawing.dxf").write_text("drawn\n")
    with (source / "endless.bin").open("wb") as file:
        file.truncate(1 << 42)  # a hole that nobody reads to its end
    with subprocess.Popen([PDFS, "import", source, PROJECT], env=here.environ) as importing:
        deadline = time.monotonic() + LIMIT
        while not list((here.home / "state" / "pdfs" / "sessions").glob("*/snapshot")):
            assert importing.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        importing.kill()
    ended = here.run("mount", PROJECT, here.mountpoint, "--yes")
    assert ended.code == 9
    assert f"cut short here before it had read all of {source}" in ended.err
    assert "drawing.dxf" not in here.pdfs("ls", f"{PROJECT}/planning")
    (source / "endless.bin").unlink()
    assert here.run("import", source, PROJECT).err.startswith(f"an import of {PROJECT}/planning")
    assert "drawing.dxf" in here.pdfs("ls", f"{PROJECT}/planning")
    assert "  discarded " in here.pdfs("recover", "list")
