"""`pdfs status`, and `pdfs` alone, with sessions in every condition."""

import json

from pdfs.config import Configuration
from pdfs.core.moments import local_moment
from tests.cli.conftest import Run
from tests.cli.daemons import OTHER, SESSION, STATUS, daemon, result, session_of


def test_status_of_nothing_says_so(run: Run) -> None:
    assert run("status").output == (
        "nothing is mounted on this machine, and nothing waits here to be published\n"
    )
    assert json.loads(run("status", "--json").output) == {"schema": 1, "sessions": []}


def test_status_shows_state_bucket_unpublished_work_fetch_and_lock(
    run: Run, configuration: Configuration
) -> None:
    with daemon(configuration, {"status": result(**STATUS)}):
        said = run("status", "/mnt/plant").output
    assert said.startswith("Plant/planning  ACTIVE  /mnt/plant\n")
    assert "2 files (3.0 MiB)" in said
    assert "1 file (10 bytes) of 4 files (40 bytes)" in said
    assert f"active, anna on ws7 since {local_moment(1_800_000_000)}, " in said
    assert "(only on this machine)" in said
    assert "process 4711" in said
    assert "pdfs umount /mnt/plant" in said


def test_status_shows_what_is_left_of_an_upload_while_it_lasts(
    run: Run, configuration: Configuration
) -> None:
    upload = {
        "message": "upload",
        "files": 1,
        "of_files": 2,
        "bytes": 1 << 20,
        "of_bytes": 3 << 20,
        "path": "a.dxf",
        "retries": 0,
        "trouble": "",
    }
    with daemon(configuration, {"status": result(**{**STATUS, "upload": upload})}):
        said = run("status").output
    assert "uploading: 1 of 2 files, 1.0 MiB of 3.0 MiB; a.dxf; 2.0 MiB left" in said


def test_status_says_nothing_of_an_upload_that_is_over(
    run: Run, configuration: Configuration
) -> None:
    over = {"message": "publish", "files": 2, "of_files": 2, "bytes": 3, "of_bytes": 3}
    with daemon(configuration, {"status": result(**{**STATUS, "upload": over})}):
        assert "publishing" not in run("status").output


def test_files_that_no_other_tool_sees_are_listed_and_the_rest_is_counted(
    run: Run, configuration: Configuration
) -> None:
    paths = [f"{number}\udcff" for number in range(7)]
    hidden = {**STATUS, "invisible": {"files": 120, "paths": paths}}
    with daemon(configuration, {"status": result(**hidden)}):
        said = run("status").output
        fields = json.loads(run("status", "--json").output)["sessions"][0]["invisible"]
    assert "not visible to other tools: 0\\udcff, 1\\udcff" in said
    assert "4\\udcff and 115 more\n" in said
    assert fields == {"files": 120, "paths": paths}


def test_status_shows_what_is_wrong(run: Run, configuration: Configuration) -> None:
    troubled = {
        **STATUS,
        "lost": "the stage was taken by berta",
        "damage": "its journal is damaged",
        "trouble": "the bucket does not answer",
        "conflicts": ["a (conflict).dxf"],
        "warnings": [["a//b", "it has '' between slashes"], ["\x1b[2J/../b", "it has '..'"]],
        "timing": {"renewal": 1},
    }
    with daemon(configuration, {"status": result(**troubled)}):
        said = run("status").output
    for words in ("taken by berta", "does not answer", "a (conflict).dxf", "a//b: it has"):
        assert words in said
    assert "  damage      its journal is damaged\n" in said
    assert "unmount, then pdfs recover resume 5e55105e merges" in said
    assert "active, anna on ws7" not in said, "who lost a lock is not said to have it"
    assert "renewal" in said
    assert "\x1b" not in said
    assert "\\x1b[2J/../b" in said


def test_status_says_how_often_a_mount_publishes_and_what_could_not_be_removed(
    run: Run, configuration: Configuration
) -> None:
    shown = {**STATUS, "is_mounted": True, "every": 900.0, "not_removed": ["a.dwg"]}
    with daemon(configuration, {"status": result(**shown)}):
        said = run("status").output
    assert "  publishes   by itself every 15 min\n" in said
    assert "  not removed a.dwg: another tool changed it\n" in said


def test_status_of_a_mount_that_does_not_publish_by_itself_says_nothing_of_it(
    run: Run, configuration: Configuration
) -> None:
    with daemon(configuration, {"status": result(**{**STATUS, "is_mounted": True, "every": 0.0})}):
        assert "by itself" not in run("status").output


def test_a_mount_whose_disk_failed_is_not_said_to_publish(
    run: Run, configuration: Configuration
) -> None:
    failed = {**STATUS, "read_only": "the journal can't be trusted"}
    with daemon(configuration, {"status": result(**failed)}):
        said = run("status").output
    assert "  read-only   the journal can't be trusted\n" in said
    assert "pdfs umount /mnt/plant publishes nothing more; mounting the stage again" in said
    assert "publishes and releases" not in said


def test_status_as_json_is_what_the_daemon_says(run: Run, configuration: Configuration) -> None:
    with daemon(configuration, {"status": result(**STATUS)}):
        said = json.loads(run("status", "--json").output)
    assert said == {"schema": 1, "sessions": [{**STATUS, "alive": True}]}


def test_a_crashed_session_is_shown_with_its_remedy(run: Run, configuration: Configuration) -> None:
    with session_of(configuration, is_held=False):
        said = run().output
        (session,) = json.loads(run("status", "--json").output)["sessions"]
    assert "Plant/planning  crashed  /mnt/plant" in said
    assert "pdfs recover resume 5e55105e" in said
    assert (session["session"], session["alive"], session["state"]) == (SESSION, False, "IDLE")


def test_a_session_that_was_cut_short_says_why_wherever_it_is_named(
    run: Run, configuration: Configuration
) -> None:
    why = "the stage was taken over by bert on ws8"
    with session_of(configuration, is_held=False, why=why):
        said = run("status").output
        (session,) = json.loads(run("status", "--json").output)["sessions"]
        assert f"; {why}\n" in run("recover", "list").output
    assert "Plant/planning  cut short  /mnt/plant" in said
    assert f"  cut short   {why}\n" in said
    assert session["why"] == why


def test_a_daemon_that_does_not_answer_is_trouble_not_an_error(
    run: Run, configuration: Configuration
) -> None:
    with session_of(configuration):
        said = run("status")
    assert said.exit_code == 0
    assert "Plant/planning  does not answer  /mnt/plant\n" in said.output
    assert "nothing is lost by that" in said.output
    assert "publishes" not in said.output


def test_a_read_only_mount_shows_its_generation_and_what_can_not_be_read(
    run: Run, configuration: Configuration
) -> None:
    moment = "2027-01-15T08:00:00.000Z"
    reader = {"follows": True, "generation": 7, "published": moment, "since": moment}
    shown = {**STATUS, "lock": None, "unpublished": None, "reader": reader}
    shown |= {"unreadable": {"pumps/P-101.dwg": "bytes 0 to 3 are nowhere in the bucket"}}
    with daemon(configuration, {"status": result(**shown)}, is_reader=True):
        said = run("status").output
        assert json.loads(run("status", "--json").output)["sessions"][0]["reader"] == reader
        assert run("publish", "/mnt/plant").exit_code == 2
        assert run("abort", "/mnt/plant", "--yes").exit_code == 2
        assert run("recover", "list").output.count("Plant") == 0
    assert said.startswith("Plant/planning  read-only  /mnt/plant\n")
    when = local_moment(1_800_000_000)
    assert f"7, published {when}, shown since {when}; it follows newer ones" in said
    assert "unreadable  pumps/P-101.dwg" in said
    assert "pdfs umount /mnt/plant ends it" in said


def test_a_stage_means_its_session_and_not_who_looks_at_it(
    run: Run, configuration: Configuration
) -> None:
    with session_of(configuration, OTHER, is_reader=True, mountpoint="/mnt/look"):
        with daemon(configuration, {"status": result(**STATUS)}):
            said = run("status", "Plant").output
            assert said.startswith("Plant/planning  ACTIVE  /mnt/plant\n")
        said = run("status", "Plant").output
        assert said.startswith("Plant/planning  read-only  /mnt/look\n")
