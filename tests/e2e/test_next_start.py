"""The next start on a real terminal: a crashed session is shown, and resumed or discarded."""

import os
import select
import subprocess
from pathlib import Path

import pytest

from pdfs.core.ids import SessionId
from tests.e2e.conftest import MakeMachine
from tests.e2e.machines import LIMIT, PDFS, PROJECT, Bucket, Machine
from tests.local.left import leave_crashed

OLD, NEW = SessionId("01d" + 29 * "0"), SessionId("4e3" + 29 * "1")
QUESTION = "Resume it, or discard it? (resume, discard) [resume]: "
INTERRUPT, END_OF_FILE = "\x03", "\x04"


def leave(here: Machine, session: SessionId, **files: str) -> None:
    """A session of the project that crashed with these files."""
    described = {
        "project": PROJECT,
        "stage": "planning",
        "user": here.user,
        "machine": here.name,
        "bucket": here.bucket.environ["PDFS_BUCKET"],
        "endpoint": "",
        "mountpoint": str(here.mountpoint),
        "run": "0" * 32,
    }
    state = here.home / "state" / "pdfs"
    contents = {name: text.encode() for name, text in files.items()}
    leave_crashed(state, described, session, contents)


def on_a_terminal(here: Machine, *answers: str) -> tuple[int, str]:
    """`pdfs mount` with somebody who answers each question so; exit code and what was shown."""
    ours, theirs = os.openpty()
    command = ["setsid", "--ctty", "--wait", str(PDFS), "mount", PROJECT, str(here.mountpoint)]
    with subprocess.Popen(
        command, env=here.environ, cwd="/", stdin=theirs, stdout=theirs, stderr=theirs
    ) as mounting:
        try:
            os.close(theirs)
            shown, left, typed = "", list(answers), ""
            while piece := _read(ours, typed if typed in (INTERRUPT, END_OF_FILE) else ""):
                shown += piece
                if left and shown.count(QUESTION) > len(answers) - len(left):
                    typed = left.pop(0)
                    os.write(ours, typed.encode())
            code = mounting.wait(LIMIT)
        except BaseException:
            mounting.kill()  # or nobody would get beyond the end of this block
            raise
    os.close(ours)
    assert not left, f"it did not ask: {shown}"
    return code, shown.replace("\r\n", "\n")


def _read(terminal: int, again: str) -> str:
    """What is shown next. A key that was typed before anybody read is forgotten, as when the
    terminal is set for a question: it is typed `again`."""
    while not select.select([terminal], [], [], 1.0)[0]:
        os.write(terminal, again.encode())
    try:
        return os.read(terminal, 4096).decode()
    except OSError:  # nobody has the other side any more
        return ""


def kept(here: Machine) -> dict[str, bytes]:
    """Every file of every session, but its lock."""
    state = here.home / "state" / "pdfs" / "sessions"
    return {
        str(path.relative_to(state)): path.read_bytes()
        for path in state.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("answer", ["resume\n", "\n"], ids=["resume", "an empty answer"])
def test_what_a_session_holds_is_shown_and_it_is_resumed(
    answer: str, bucket: Bucket, machine: MakeMachine
) -> None:
    here = machine(bucket)
    leave(here, NEW, drawing="drawn", second="drawn, too")
    code, shown = on_a_terminal(here, answer)
    assert code == 0, shown
    age, what, *_ = shown.splitlines()
    assert age.startswith(f"a session of {PROJECT}/planning crashed here ")
    assert age.endswith(" s ago with 2 files (15 bytes) unpublished, 4 operations")
    assert what.startswith("last operation: written: second, ")
    assert (here.mountpoint / "drawing").read_text() == "drawn"
    here.pdfs("umount", here.mountpoint)
    assert "second" in here.pdfs("ls", f"{PROJECT}/planning")


def test_a_discarded_session_is_in_the_trash_and_the_mount_goes_on_without_it(
    bucket: Bucket, machine: MakeMachine
) -> None:
    here = machine(bucket)
    here.mount("--create")
    here.pdfs("umount", PROJECT)
    leave(here, NEW, drawing="drawn")
    code, shown = on_a_terminal(here, "discard\n")
    assert code == 0, shown
    assert f"pdfs recover undo {NEW[:8]} brings it back" in shown
    assert list(here.mountpoint.iterdir()) == []
    here.pdfs("umount", here.mountpoint)
    here.pdfs("recover", "undo")
    assert "1 file (5 bytes) unpublished" in here.pdfs("recover", "list")


@pytest.mark.parametrize(
    ("answers", "last"),
    [
        ((INTERRUPT,), "not answered, and not mounted"),
        ((END_OF_FILE,), "not answered, and not mounted"),
        (("maybe\n", INTERRUPT), "not answered, and not mounted"),
    ],
    ids=["Ctrl-C", "end of file", "no such answer, then Ctrl-C"],
)
def test_who_does_not_answer_leaves_all_as_it_was(
    answers: tuple[str, ...], last: str, bucket: Bucket, machine: MakeMachine
) -> None:
    here = machine(bucket)
    leave(here, NEW, drawing="drawn")
    before = kept(here)
    code, shown = on_a_terminal(here, *answers)
    assert code == 130
    assert shown.splitlines()[-1].startswith(f"pdfs: {last}: session {NEW[:8]} stays as it is")
    assert kept(here) == before
    assert not here.mountpoint.is_mount()
    assert bucket.directory is not None
    assert not [path for path in bucket.directory.rglob("*") if path.is_file()]


def test_of_two_sessions_each_is_shown_before_it_is_discarded_and_the_older_one_can_stay(
    bucket: Bucket, machine: MakeMachine
) -> None:
    here = machine(bucket)
    here.mount("--create")
    here.pdfs("umount", PROJECT)
    leave(here, OLD, old="older work")
    leave(here, NEW, new="newer work")
    code, shown = on_a_terminal(here, "discard\n", "resume\n")
    assert code == 0, shown
    assert shown.index("written: new") < shown.index("written: old")
    assert (here.mountpoint / "old").read_text() == "older work"
    here.pdfs("umount", here.mountpoint)
    assert "recover undo 4e311111" in here.pdfs("recover", "list")
    leave(here, OLD, last="the last work")
    here.pdfs("recover", "undo")
    code, shown = on_a_terminal(here, "resume\n")
    assert code == 0, shown
    assert "an older session waits, too: pdfs recover show 4e311111" in shown
    here.pdfs("umount", here.mountpoint)
    assert Path(here.home, "state/pdfs/sessions", NEW).is_dir()


def test_a_mount_that_was_stopped_before_anybody_worked_is_no_question(
    bucket: Bucket, machine: MakeMachine
) -> None:
    here = machine(bucket)
    leave(here, NEW)
    code, shown = on_a_terminal(here)
    assert code == 0, shown
    assert "crashed" not in shown
    here.pdfs("umount", here.mountpoint)
