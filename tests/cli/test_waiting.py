"""Waiting for a session of this machine that is still being published."""

import pytest

from pdfs.cli.sessions import local_sessions
from pdfs.cli.waiting import is_draining, wait_for_publish
from pdfs.config import Configuration
from pdfs.errors import LockError
from tests.cli.daemons import STATUS, daemon, never, refusal, result, session_of

UPLOADING = {
    "status": result(**{**STATUS, "state": "UPLOADING", "is_mounted": False}),
    "subscribe": result(),
}


@pytest.fixture(autouse=True)
def _not_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fake daemon's session stays held after its answer."""
    monkeypatch.setattr("pdfs.cli.waiting._ENDING", 0.1)


def test_it_returns_when_the_publish_is_over_and_says_what_was_left(
    configuration: Configuration, capsys: pytest.CaptureFixture[str]
) -> None:
    end = result(exit_code=10, conflicts=["a (conflict).dxf"], missing=[])
    with daemon(configuration, {**UPLOADING, "umount": end}):
        (found,) = local_sessions(configuration)
        assert is_draining(configuration, found)
        wait_for_publish(configuration, found, 60)
    said = capsys.readouterr().err
    assert "is still being published by session 5e55105e: 2 files (3.0 MiB) left" in said
    assert "conflict copy: a (conflict).dxf" in said


def test_a_session_that_publishes_while_it_is_mounted_is_not_waited_for(
    configuration: Configuration,
) -> None:
    """The wait would unmount it under its user."""
    publishes = result(**{**STATUS, "state": "UPLOADING", "is_mounted": True})
    with daemon(configuration, {"status": publishes}):
        (found,) = local_sessions(configuration)
        assert not is_draining(configuration, found)


def test_a_publish_that_fails_is_told_and_the_way_is_free(
    configuration: Configuration, capsys: pytest.CaptureFixture[str]
) -> None:
    lost = refusal("LockLost", 4, "the stage was taken over by berta on ws8")
    with daemon(configuration, {**UPLOADING, "umount": lost}):
        (found,) = local_sessions(configuration)
        wait_for_publish(configuration, found, 60)
    assert "its publish ended so: the stage was taken over by berta" in capsys.readouterr().err


@pytest.mark.parametrize("limit", [0.0, 0.2])
def test_the_wait_has_a_bound_and_then_the_stage_is_locked(
    limit: float, configuration: Configuration
) -> None:
    with daemon(configuration, {**UPLOADING, "umount": never}):
        (found,) = local_sessions(configuration)
        with pytest.raises(LockError, match="pdfs status 5e55105e"):
            wait_for_publish(configuration, found, limit)


def test_a_daemon_that_is_gone_by_now_has_drained_and_one_that_is_mounted_has_not(
    configuration: Configuration,
) -> None:
    with session_of(configuration):
        (found,) = local_sessions(configuration)
        assert not is_draining(configuration, found), "it lives, and does not answer"
    assert is_draining(configuration, found)
