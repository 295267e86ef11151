"""Which session TARGET means."""

import os
from pathlib import Path

import pytest

from pdfs.cli.sessions import find_session, full_path, local_sessions
from pdfs.config import Configuration
from pdfs.core.ids import SessionId
from pdfs.errors import SessionNotFound, UsageError
from tests.cli.conftest import Run
from tests.cli.daemons import OTHER, SESSION, daemon, session_of

PLACES = ["/mnt/plant", "/mnt/plant/", "/mnt/../mnt/plant/drawings"]
NAMES = [SESSION, "5E55", "Plant", "Plant/planning", "Plant/"]


@pytest.mark.parametrize("target", PLACES + NAMES)
def test_a_mountpoint_an_id_and_a_stage_name_a_session(
    target: str, configuration: Configuration
) -> None:
    with session_of(configuration), session_of(configuration, OTHER, project="X", mountpoint=""):
        assert find_session(local_sessions(configuration), target).session == SESSION


@pytest.mark.parametrize("target", ["/mnt/plant2", "5e5", "Plant/other", "Plan", "", "/"])
def test_what_is_none_of_these_names_no_session(target: str, configuration: Configuration) -> None:
    with session_of(configuration), pytest.raises(SessionNotFound, match="pdfs status"):
        find_session(local_sessions(configuration), target)


def test_a_name_of_several_sessions_is_refused_with_their_ids(configuration: Configuration) -> None:
    with session_of(configuration), session_of(configuration, OTHER, stage="built"):
        with pytest.raises(UsageError, match=r"5e55105e.*0ddba11e|0ddba11e.*5e55105e"):
            find_session(local_sessions(configuration), "Plant")
        found = find_session(local_sessions(configuration), "Plant/built")
        assert found.session == OTHER


def test_a_session_that_lives_goes_before_one_that_crashed_there(
    configuration: Configuration,
) -> None:
    with session_of(configuration), session_of(configuration, OTHER, is_held=False):
        assert find_session(local_sessions(configuration), "/mnt/plant").session == SESSION


def test_the_innermost_of_mounts_below_each_other_is_meant(configuration: Configuration) -> None:
    def named(target: str) -> str:
        return find_session(local_sessions(configuration), target).session

    with session_of(configuration):
        with session_of(configuration, OTHER, stage="built", mountpoint="/mnt/plant/built"):
            assert named("/mnt/plant/built/drawings") == named("/mnt/plant/built") == OTHER
            assert named("/mnt/plant/drawings") == named("/mnt/plant") == SESSION
            assert named("/mnt/plant/built2") == SESSION
        third = SessionId("3" * 32)
        with session_of(configuration, third, is_held=False, mountpoint="/mnt/plant/old"):
            assert named("/mnt/plant/old") == third, "the dead mount there is meant"
            assert named("/mnt/plant/old/drawings") == SESSION


@pytest.mark.figure(name="H4")
def test_a_process_id_that_another_process_has_by_now_keeps_no_session_alive(
    configuration: Configuration,
) -> None:
    with session_of(configuration, is_held=False, pid=os.getpid()):
        assert [each.is_held for each in local_sessions(configuration)] == [False]
    with session_of(configuration, OTHER, pid=1 << 22):
        assert [each.is_held for each in local_sessions(configuration)] == [True, False]


def test_a_session_without_a_readable_description_is_listed_with_its_problem(
    configuration: Configuration,
) -> None:
    with session_of(configuration):
        path = Path(configuration.state) / "sessions" / SESSION / "session.json"
        path.write_text('{"schema": 1, "project": 7}')
        (found,) = local_sessions(configuration)
        assert found.session == SESSION
        assert "'project' is 7" in found.problem
        assert find_session([found], SESSION[:8]) is found


def test_a_mountpoint_is_named_as_the_kernel_names_it(tmp_path: Path) -> None:
    (tmp_path / "real" / "mnt").mkdir(parents=True)
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "real" / "here").symlink_to("mnt")
    (tmp_path / "real" / "there").symlink_to(tmp_path / "link" / "here")
    for name in ("mnt", "here", "there", "here/"):
        assert full_path(str(tmp_path / "link" / name)) == str(tmp_path / "real" / "mnt")


def test_links_in_a_circle_name_something_that_is_no_mountpoint(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    assert full_path(str(tmp_path / "a")).startswith(f"{tmp_path}/")


@pytest.mark.parametrize(("mountpoint", "words"), [("", "published"), ("/mnt/plant", "mounted")])
def test_a_session_that_another_process_has_is_not_recovered_and_where_it_is_said(
    mountpoint: str, words: str, configuration: Configuration, run: Run
) -> None:
    with daemon(configuration, {}, mountpoint=mountpoint):
        said = run("recover", "resume", SESSION[:8])
    assert said.exit_code == 4
    assert words in said.stderr
    assert "pdfs umount ''" not in said.stderr
