"""Who asks for an end that has just come: the session's log answers."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from pdfs.config import Configuration
from pdfs.core import notes
from pdfs.core.ids import Path as StagePath
from pdfs.disk import OsDisk
from pdfs.local.session_log import SessionLog
from tests.cli.conftest import Run
from tests.cli.daemons import SESSION, session_of
from tests.cli.test_log import BEGAN, HEADER

FINE = notes.CameTo(exit_code=0, is_aborted=False, missing=0, damage="")


def ended(configuration: Configuration, *told: notes.Note, ago: float = 0.0) -> None:
    """The session is over, and its log has these lines."""
    header = replace(HEADER, bucket=configuration.bucket)
    logs = configuration.state / "logs"
    with SessionLog(OsDisk(), logs, header, now=lambda: BEGAN) as log:
        for note in told:
            log.write(note)
    path = Path(logs / f"{SESSION}.jsonl")
    changed = path.stat().st_mtime - ago
    os.utime(path, (changed, changed))


@pytest.mark.parametrize("command", ["umount", "publish"])
@pytest.mark.parametrize("target", ["/mnt/plant", "Plant", "5e55"])
def test_a_session_that_ended_a_moment_before_is_published(
    run: Run, configuration: Configuration, command: str, target: str
) -> None:
    ended(configuration, notes.Published(generation=1, files=1, bytes=2, missing=0), FINE)
    said = run(command, target)
    assert (said.exit_code, said.stderr) == (0, "")
    assert "Plant/planning is published in" in said.stdout
    assert "the lock is released" in said.stdout


def test_its_conflict_copies_are_told(run: Run, configuration: Configuration) -> None:
    copy = notes.ConflictCopied(path=StagePath("a (anna).dwg"))
    ended(configuration, copy, replace(FINE, exit_code=10))
    said = run("umount", "Plant")
    assert said.exit_code == 10
    assert "a (anna).dwg" in said.stderr


@pytest.mark.parametrize(
    ("missing", "damage", "words"),
    [(2, "", "2 of its files are without their bytes"), (0, "the lock is torn", "is torn")],
)
def test_its_damage_is_told(
    missing: int, damage: str, words: str, run: Run, configuration: Configuration
) -> None:
    ended(configuration, replace(FINE, exit_code=11, missing=missing, damage=damage))
    said = run("umount", "Plant")
    assert said.exit_code == 11
    assert words in said.stderr


def test_one_that_was_aborted_is_not_called_published(
    run: Run, configuration: Configuration
) -> None:
    ended(configuration, replace(FINE, is_aborted=True))
    said = run("umount", "Plant")
    assert said.exit_code == 9
    assert "without publishing" in said.stderr
    assert "pdfs recover undo 5e55105e" in said.stderr


@pytest.mark.parametrize(
    "told",
    [
        [notes.Failed(kind="LockHeld", what="locked by bert")],
        [FINE, notes.BroughtBack()],
        [FINE, notes.Discarded()],
        [notes.Published(generation=1, files=1, bytes=2, missing=0)],
    ],
)
def test_one_whose_log_does_not_say_how_it_ended_is_not_called_published(
    told: list[notes.Note], run: Run, configuration: Configuration
) -> None:
    ended(configuration, *told)
    assert run("umount", "Plant").exit_code == 3


def test_one_that_ended_long_ago_is_not_the_one_that_is_meant(
    run: Run, configuration: Configuration
) -> None:
    ended(configuration, FINE, ago=3600.0)
    assert run("umount", "Plant").exit_code == 3


def test_abort_of_one_that_ended_a_moment_before_finds_none(
    run: Run, configuration: Configuration
) -> None:
    ended(configuration, FINE)
    assert run("abort", "Plant", "--yes").exit_code == 3


def test_a_daemon_that_ends_before_it_is_asked_has_said_in_the_log_how(
    run: Run, configuration: Configuration
) -> None:
    with session_of(configuration):
        ended(configuration, FINE)
        said = run("umount", "/mnt/plant")
    assert said.exit_code == 0
    assert "is published in" in said.stdout
