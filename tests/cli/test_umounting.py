"""`pdfs umount` and `pdfs abort` with daemons that answer in every way."""

from pathlib import Path

import pytest

from pdfs.cli import umounting
from pdfs.config import Configuration
from pdfs.mount.mounts import Mounted
from tests.cli.conftest import Run
from tests.cli.daemons import STATUS, daemon, never, refusal, result, session_of

SUBSCRIBED = result()
CLEAN = {"exit_code": 0, "conflicts": [], "missing": []}


def test_umount_ends_with_0_when_the_daemon_says_that_all_is_published(
    run: Run, configuration: Configuration
) -> None:
    with daemon(configuration, {"subscribe": SUBSCRIBED, "umount": result(**CLEAN)}) as asked:
        said = run("umount", "/mnt/plant")
    assert (said.exit_code, asked) == (0, ["subscribe", "umount"])
    assert "Plant/planning is published" in said.stdout
    assert "the lock is released" in said.stdout


@pytest.mark.parametrize(
    ("answer", "code", "words"),
    [
        ({**CLEAN, "exit_code": 10, "conflicts": ["a (conflict).dxf"]}, 10, "1 conflict copy;"),
        ({**CLEAN, "exit_code": 11, "missing": ["b.dxf"]}, 11, "bytes of 1 file is missing"),
        (
            {**CLEAN, "exit_code": 11, "damage": "its journal is damaged"},
            11,
            "was published, but its journal is damaged\n",
        ),
        (
            {**CLEAN, "exit_code": 11, "damage": "its journal is damaged", "missing": ["b.dxf"]},
            11,
            "its journal is damaged; and the bytes of 1 file is missing",
        ),
        ({**CLEAN, "exit_code": 9}, 9, "pdfs recover list"),
    ],
)
def test_umount_ends_with_the_code_of_what_is_left_and_names_it(
    answer: dict[str, object], code: int, words: str, run: Run, configuration: Configuration
) -> None:
    with daemon(configuration, {"subscribe": SUBSCRIBED, "umount": result(**answer)}):
        said = run("umount", "Plant")
    assert said.exit_code == code
    assert words in said.stderr
    for path in (*answer["conflicts"], *answer["missing"]):  # type: ignore[misc]  # lists of str
        assert path in said.stderr


def test_umount_lists_files_that_no_other_tool_sees_and_ends_with_0(
    run: Run, configuration: Configuration
) -> None:
    paths = [f"{number}\udcff" for number in range(25)]
    answer = {**CLEAN, "invisible": {"files": 120, "paths": paths}}
    with daemon(configuration, {"subscribe": SUBSCRIBED, "umount": result(**answer)}):
        said = run("umount", "/mnt/plant")
    assert said.exit_code == 0
    assert "not visible to other tools: 19\\udcff\nnot visible to other tools: 100 more\n" in (
        said.stderr
    )
    assert "20\\udcff" not in said.stderr


def test_umount_names_what_was_not_removed_and_ends_with_0(
    run: Run, configuration: Configuration
) -> None:
    answer = {**CLEAN, "not_removed": ["a.dwg"]}
    with daemon(configuration, {"subscribe": SUBSCRIBED, "umount": result(**answer)}):
        said = run("umount", "/mnt/plant")
    assert said.exit_code == 0
    assert "not removed, since another tool changed it: a.dwg\n" in said.stderr


def test_umount_hands_on_what_the_daemon_refuses(run: Run, configuration: Configuration) -> None:
    busy = refusal("MountError", 7, "/mnt/plant is in use by vim (12)")
    with daemon(configuration, {"subscribe": SUBSCRIBED, "umount": busy}):
        said = run("umount", "/mnt/plant")
    assert said.exit_code == 7
    assert said.stderr == "pdfs: /mnt/plant is in use by vim (12); do this\n"


def test_umount_of_a_stage_that_was_lost_ends_with_9_where_work_remains_here(
    run: Run, configuration: Configuration
) -> None:
    lost = refusal("UnpublishedWork", 9, "the stage was taken over by bert on ws8")
    with daemon(configuration, {"subscribe": SUBSCRIBED, "umount": lost}):
        said = run("umount", "/mnt/plant")
    assert said.exit_code == 9
    assert "by bert on ws8" in said.stderr


def test_umount_ends_with_9_when_its_time_is_over(run: Run, configuration: Configuration) -> None:
    with daemon(configuration, {"subscribe": SUBSCRIBED, "umount": never}):
        said = run("umount", "/mnt/plant", "--timeout", "0.2")
    assert said.exit_code == 9
    assert "is not published yet; nothing is lost, the daemon goes on; pdfs status" in said.stderr


@pytest.mark.parametrize(
    "trouble", [{"trouble": "the clock is wrong; set it"}, {"upload": {"trouble": "the clock"}}]
)
def test_umount_says_what_is_in_the_way_when_its_time_is_over(
    trouble: dict[str, object], run: Run, configuration: Configuration
) -> None:
    status = result(**{**STATUS, **trouble})
    answers = {"subscribe": SUBSCRIBED, "umount": never, "status": status}
    with daemon(configuration, answers):
        said = run("umount", "/mnt/plant", "--timeout", "0.2")
    assert said.exit_code == 9
    assert "is not published yet: the clock" in said.stderr
    assert "; nothing is lost, the daemon goes on" in said.stderr


def test_umount_ends_with_9_when_the_daemon_dies_meanwhile(
    run: Run, configuration: Configuration
) -> None:
    with daemon(configuration, {"subscribe": SUBSCRIBED}):
        said = run("umount", "/mnt/plant")
    assert said.exit_code == 9
    assert "is unknown" in said.stderr


def test_umount_of_a_crashed_session_ends_with_9_and_says_how_to_go_on(
    run: Run, configuration: Configuration
) -> None:
    with session_of(configuration, is_held=False):
        said = run("umount", "/mnt/plant")
    assert said.exit_code == 9
    assert "pdfs recover resume 5e55105e" in said.stderr
    assert said.stderr.endswith("pdfs mount Plant /mnt/plant\n")


def test_a_daemon_that_says_nonsense_is_no_success(run: Run, configuration: Configuration) -> None:
    with daemon(configuration, {"subscribe": lambda: [{"v": 2, "ok": True}], "umount": never}):
        said = run("umount", "/mnt/plant")
    assert said.exit_code == 9


def test_abort_asks_and_without_a_terminal_wants_yes(
    run: Run, configuration: Configuration
) -> None:
    with daemon(configuration, {"status": result(**STATUS)}) as asked:
        said = run("abort", "/mnt/plant")
    assert (said.exit_code, asked) == (2, ["status"])
    assert "2 files (3.0 MiB) unpublished" in said.stderr
    assert "--yes" in said.stderr


def test_abort_with_yes_ends_the_session_and_says_how_to_undo_it(
    run: Run, configuration: Configuration
) -> None:
    with daemon(configuration, {"subscribe": SUBSCRIBED, "abort": result(**CLEAN)}) as asked:
        said = run("abort", "/mnt/plant", "--yes")
    assert (said.exit_code, asked) == (0, ["subscribe", "abort"])
    assert "pdfs recover undo 5e55105e" in said.stdout


def test_a_directory_without_a_mount_is_called_that(
    run: Run, configuration: Configuration, tmp_path: Path
) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    for command in ("umount", "abort"):
        said = run(command, bare)
        assert said.exit_code == 3
        assert f"{bare} is a directory where PDFS has nothing mounted" in said.stderr
        assert "not in the bucket" in said.stderr
    with session_of(configuration, is_held=True):
        assert "nothing mounted" in run("umount", bare).stderr


@pytest.mark.parametrize(
    ("dead", "words"),
    [
        (True, ("is dead: its daemon", "pdfs recover list", "fusermount3 -u -z '/mnt/a plant'")),
        (False, ("is mounted at /mnt/a plant by another user", "unmount it as that user")),
    ],
)
def test_a_mount_that_is_not_of_this_environment_is_called_dead_where_it_is(
    dead: bool, words: tuple[str, ...], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounted = Mounted("/mnt/a plant", "fuse.pdfs", "Plant/planning", "0:61")
    monkeypatch.setattr(umounting, "mount_at", lambda path: mounted)
    monkeypatch.setattr(umounting, "is_dead", lambda path: dead)
    for command in ("umount", "abort"):
        said = run(command, "/mnt/a plant")
        assert said.exit_code == 3
        assert all(each in said.stderr for each in words)
        assert ("is dead" in said.stderr) is dead


def test_names_can_not_command_the_terminal(run: Run, configuration: Configuration) -> None:
    conflict = {**CLEAN, "exit_code": 10, "conflicts": ["\x1b[2Jred\nline"]}
    with daemon(configuration, {"subscribe": SUBSCRIBED, "umount": result(**conflict)}):
        said = run("umount", "Plant")
    assert "\\x1b[2Jred\\nline\n" in said.stderr
    assert "\x1b" not in said.output
