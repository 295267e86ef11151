"""`pdfs mount`: questions, and daemons that start in every way."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pdfs.cli import daemon as daemon_module
from pdfs.cli import leftover, mounting, mountpoint
from pdfs.config import Configuration
from tests.cli.conftest import Run
from tests.cli.daemons import SESSION, STATUS, daemon, description, result, session_of
from tests.local.left import leave_crashed

Play = Callable[..., Callable[[], list[dict[str, Any]]]]

MOUNTED = {"event": "mounted", "session": SESSION, "pid": 1, "mountpoint": "/mnt"}
ASK = {
    "event": "failed",
    "kind": "LockHeld",
    "exit_code": 4,
    "what": "stage 'planning' of 'Plant' is locked by anna on ws9",
    "remedy": "unmount it there; if that machine is gone: --take-over",
    "refusal": "ask",
}


@pytest.fixture
def play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Play:
    """Lets starts of the daemon go so, one after the other; gives the requests that came."""
    monkeypatch.setattr(mountpoint, "check_fuse", lambda: None)
    script = tmp_path / "script.json"
    program = Path(__file__).with_name("fake_daemon.py")
    monkeypatch.setattr(daemon_module, "_COMMAND", (sys.executable, program, script))

    def play(*runs: dict[str, Any]) -> Callable[[], list[dict[str, Any]]]:
        script.write_text(json.dumps(runs))
        requests = script.with_suffix(".requests")
        return lambda: [json.loads(line) for line in requests.read_text().splitlines()]

    return play


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """An empty directory."""
    made = tmp_path / "mnt"
    made.mkdir()
    return made


@pytest.fixture
def on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody is there to be asked."""
    for module in (mounting, leftover):
        monkeypatch.setattr(module, "is_interactive", lambda: True)


def test_mount_returns_when_the_daemon_says_that_it_is_mounted(
    play: Play, place: Path, run: Run
) -> None:
    requests = play({"events": [{"event": "state_changed", "state": "ACQUIRING"}, MOUNTED]})
    said = run("mount", "Plant", place, "--create")
    assert said.exit_code == 0
    assert f"Plant/planning is mounted at {place}" in said.stdout
    assert "(only on this machine)" in said.stdout
    assert f"pdfs umount {place}" in said.stdout
    (request,) = requests()
    assert request["create"]
    assert not request["agreed"]
    assert (request["project"], request["stage"], request["mountpoint"]) == (
        "Plant",
        "planning",
        str(place),
    )


def test_sessions_that_have_not_ended_are_named_and_nothing_is_asked(
    play: Play, place: Path, run: Run
) -> None:
    anna = {"session": "a" * 32, "user": "anna", "machine": "ws7", "files": 2, "bytes": 2048}
    bert = {**anna, "session": "b" * 32, "user": "bert\x1b[2J", "files": 0, "bytes": 0}
    requests = play({"events": [{**MOUNTED, "unended": [anna, bert] + 20 * [anna]}]})
    said = run("mount", "Plant", place)
    assert said.exit_code == 0
    first, second, *_, last = said.stderr.splitlines()
    assert first == (
        "a session of anna on ws7 (aaaaaaaa) has not ended: 2 files (2.0 KiB) waited "
        "there when last counted"
    )
    assert second == (
        "a session of bert\\x1b[2J on ws7 (bbbbbbbb) has not ended: what it has not published, "
        "if anything, waits there"
    )
    assert last == "2 more sessions have not ended"
    assert len(requests()) == 1


def test_a_refused_lock_is_exit_4_without_a_terminal(play: Play, place: Path, run: Run) -> None:
    requests = play({"events": [ASK]})
    said = run("mount", "Plant", place)
    assert said.exit_code == 4
    assert said.stderr == f"pdfs: {ASK['what']}; {ASK['remedy']}\n"
    assert len(requests()) == 1


@pytest.mark.usefixtures("on_a_terminal")
def test_a_yes_on_the_terminal_takes_a_lock_that_may_be_asked_for(
    play: Play, place: Path, run: Run
) -> None:
    requests = play({"events": [ASK]}, {"events": [MOUNTED]})
    assert run("mount", "Plant", place, input="y\n").exit_code == 0
    assert [request["agreed"] for request in requests()] == [False, True]


@pytest.mark.usefixtures("on_a_terminal")
def test_a_no_on_the_terminal_changes_nothing(play: Play, place: Path, run: Run) -> None:
    requests = play({"events": [ASK]})
    said = run("mount", "Plant", place, input="\n")
    assert said.exit_code == 130
    assert said.stderr.endswith("pdfs: as you answered, nothing was changed\n")
    assert len(requests()) == 1


@pytest.mark.usefixtures("on_a_terminal")
def test_a_lock_of_another_user_is_nothing_to_be_asked_about(
    play: Play, place: Path, run: Run
) -> None:
    play({"events": [{**ASK, "refusal": "held"}]})
    said = run("mount", "Plant", place)
    assert said.exit_code == 4
    assert "Go on" not in said.stderr


def test_what_fusermount_says_is_shown(play: Play, place: Path, run: Run) -> None:
    failed = {**ASK, "kind": "MountError", "exit_code": 7, "what": "can't mount", "refusal": None}
    play({"events": [failed], "said": "fusermount3: user has no write access\n"})
    said = run("mount", "Plant", place)
    assert said.exit_code == 7
    assert said.stderr.startswith("fusermount3: user has no write access\npdfs: can't mount; ")


def test_a_daemon_that_ends_without_a_word_is_told_with_its_log(
    play: Play, place: Path, run: Run, configuration: Configuration
) -> None:
    play({"events": [], "code": 3})
    said = run("mount", "Plant", place)
    assert said.exit_code == 1
    assert "without a word (status 3)" in said.stderr
    assert f"{configuration.state}/logs/" in said.stderr


def leave(configuration: Configuration) -> None:
    """A session of the stage that crashed with a file."""
    described = description(configuration)
    leave_crashed(configuration.state, described, SESSION, {"drawing\n": b"drawn"})


def test_a_crashed_session_is_resumed_where_nobody_can_be_asked(
    play: Play, place: Path, run: Run, configuration: Configuration
) -> None:
    requests = play({"events": [MOUNTED]})
    leave(configuration)
    said = run("mount", "Plant", place)
    assert said.exit_code == 0
    crashed, last, resumed = said.stderr.splitlines()
    assert crashed.startswith("a session of Plant/planning crashed here ")
    assert crashed.endswith(" ago with 1 file (5 bytes) unpublished, 2 operations")
    assert last.startswith(r"last operation: written: drawing\n, ")
    assert resumed == "it is resumed (--discard would put it into the trash)"
    assert requests()[0]["crashed"] == SESSION


@pytest.mark.usefixtures("on_a_terminal")
def test_a_crashed_session_is_asked_about_on_a_terminal(
    play: Play, place: Path, run: Run, configuration: Configuration
) -> None:
    requests = play({"events": [MOUNTED]}, {"events": [MOUNTED]})
    leave(configuration)
    assert run("mount", "Plant", place, input="\n").exit_code == 0
    assert run("mount", "Plant", place, input="discard\n").exit_code == 0
    assert [request["crashed"] for request in requests()] == [SESSION, None]
    assert SESSION[:8] in run("recover", "list").output


@pytest.mark.usefixtures("on_a_terminal")
def test_a_session_that_died_before_anybody_worked_is_taken_up_without_a_question(
    play: Play, place: Path, run: Run, configuration: Configuration
) -> None:
    requests = play({"events": [MOUNTED]})
    with session_of(configuration, is_held=False):
        assert run("mount", "Plant", place).stderr == ""
    assert [request["crashed"] for request in requests()] == [SESSION]


def test_a_session_of_a_newer_version_is_named_and_left(
    play: Play, place: Path, run: Run, configuration: Configuration
) -> None:
    """Nobody knows of which stage it is: its work may be what the user misses."""
    requests = play({"events": [MOUNTED]})
    with session_of(configuration, is_held=False):
        file = Path(configuration.state) / "sessions" / SESSION / "session.json"
        raw = file.read_bytes().replace(b'"schema": 1', b'"schema": 2')
        file.write_bytes(raw)
        said = run("mount", "Plant", place)
        assert file.read_bytes() == raw
    assert said.exit_code == 0
    assert f"session {SESSION[:8]} on this machine can't be read, and is left: " in said.stderr
    assert "it has schema 2, of a newer PDFS" in said.stderr
    assert [request["crashed"] for request in requests()] == [None]


def test_half_an_import_is_not_taken_for_somebody_s_work(
    play: Play, place: Path, run: Run, configuration: Configuration
) -> None:
    requests = play({"events": [MOUNTED]}, {"events": [MOUNTED]})
    with session_of(configuration, is_held=False, reading="/plants/source"):
        for arguments in ((), ("--yes",)):
            said = run("mount", "Plant", place, *arguments)
            assert said.exit_code == 9
            assert "cut short here before it had read all of /plants/source" in said.stderr
        assert "import cut short" in run("status").output
        assert "import cut short" in run("recover", "list").output
        assert run("recover", "resume", "Plant").exit_code == 2
        assert run("mount", "Plant", place, "--resume").exit_code == 0
        assert run("mount", "Plant", place, "--discard").exit_code == 0
    assert [request["crashed"] for request in requests()] == [SESSION, None]


def test_a_stage_that_is_being_imported_here_is_refused_and_says_by_whom(
    play: Play, place: Path, run: Run, configuration: Configuration
) -> None:
    play()
    with session_of(configuration, reading="/plants/source"):
        said = run("mount", "Plant", place)
    assert said.exit_code == 4
    assert "is being imported on this machine, by process 4711" in said.stderr


def test_a_crashed_session_of_another_stage_or_bucket_is_left_alone(
    play: Play, place: Path, run: Run, configuration: Configuration
) -> None:
    requests = play({"events": [MOUNTED]}, {"events": [MOUNTED]})
    with session_of(configuration, is_held=False, stage="built"):
        assert run("mount", "Plant", place).exit_code == 0
    with session_of(configuration, "a" * 32, is_held=False, bucket="s3://other"):  # type: ignore[arg-type]  # a plain id will do
        assert run("mount", "Plant", place).exit_code == 0
    assert [request["crashed"] for request in requests()] == [None, None]


def test_a_stage_that_is_mounted_here_is_refused_and_says_where(
    play: Play, place: Path, run: Run, configuration: Configuration
) -> None:
    play()
    with daemon(configuration, {"status": result(**STATUS)}):
        said = run("mount", "Plant", place)
    assert said.exit_code == 4
    assert "is mounted at /mnt/plant; pdfs umount /mnt/plant" in said.stderr


def test_resume_and_discard_exclude_each_other(play: Play, place: Path, run: Run) -> None:
    play()
    assert run("mount", "Plant", place, "--resume", "--discard").exit_code == 2


def test_a_foreground_mount_names_what_its_end_left_to_look_at(
    capsys: pytest.CaptureFixture[str],
) -> None:
    closed = {"event": "closed", "exit_code": 11, "conflicts": ["a"], "missing": ["b"]}
    mounting._tell_event({**closed, "damage": "its journal is damaged"})
    assert capsys.readouterr().err == "look at: a\nlook at: b\npdfs: its journal is damaged\n"
    mounting._tell_event({**closed, "damage": ""})
    assert "pdfs" not in capsys.readouterr().err


@pytest.mark.parametrize("is_ours", [True, False])
def test_a_mountpoint_that_was_made_for_a_crashed_mount_goes_where_the_next_mount_fails(
    run: Run, configuration: Configuration, place: Path, play: Play, is_ours: bool
) -> None:
    play({"events": [{**ASK, "refusal": None}], "code": 4})
    with session_of(configuration, is_held=False, mountpoint=str(place), made_mountpoint=is_ours):
        assert run("mount", "Plant", place).exit_code == 4
    assert place.exists() != is_ours


# --- read-only --------------------------------------------------------------------------------


def test_a_read_only_mount_says_which_generation_it_shows_and_asks_nothing(
    play: Play, place: Path, run: Run, configuration: Configuration
) -> None:
    Path(configuration.bucket.removeprefix("file://")).mkdir(parents=True)
    reader = {"follows": True, "generation": 7}
    requests = play({"events": [{**MOUNTED, "reader": reader}]})
    with session_of(configuration):  # the stage is mounted here, and being edited
        said = run("mount", "Plant", place, "--read-only", "--follow")
    assert said.exit_code == 0
    assert f"Plant/planning is mounted read-only at {place}" in said.stdout
    assert "generation 7, and newer ones as they come" in said.stdout
    (request,) = requests()
    assert (request["read_only"], request["follows"], request["crashed"]) == (True, True, None)


@pytest.mark.parametrize(
    "options",
    [["--create"], ["--take-over"], ["--resume"], ["--discard"], ["--every", "15m"]],
    ids=lambda options: options[0],
)
def test_options_for_editing_are_refused_beside_read_only(
    play: Play, place: Path, run: Run, options: list[str]
) -> None:
    play()
    refused = run("mount", "Plant", place, "--read-only", *options)
    assert (refused.exit_code, options[0] in refused.stderr) == (2, True)


def test_who_edits_can_not_follow(play: Play, place: Path, run: Run) -> None:
    play()
    refused = run("mount", "Plant", place, "--follow")
    assert (refused.exit_code, "--read-only" in refused.stderr) == (2, True)


def test_who_only_looks_makes_no_bucket(play: Play, place: Path, run: Run) -> None:
    play()
    said = run("mount", "Plant", place, "--read-only")
    assert (said.exit_code, "has not been made yet" in said.stderr) == (3, True)
