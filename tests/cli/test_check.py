"""`pdfs check` on a directory that plays the bucket."""

import json
from pathlib import Path

import pytest
import trio

from pdfs.config import Configuration
from tests.cli.conftest import Run
from tests.cli.test_lock import KEYS, take


@pytest.fixture
def bucket(imported: Path, configuration: Configuration) -> Path:
    """The directory of the bucket that `Plant` is in."""
    return Path(configuration.bucket.removeprefix("file://"))


@pytest.mark.usefixtures("imported")
def test_a_sound_stage_is_called_so(run: Run) -> None:
    said = run("check", "Plant", "--read")
    assert (said.exit_code, said.output) == (0, "Plant/planning: no damage\n")
    assert json.loads(run("check", "Plant/planning", "--json").output)["findings"] == []


@pytest.mark.usefixtures("imported")
def test_what_is_not_there_is_told(run: Run) -> None:
    assert run("check", "Nothing").exit_code == 3
    assert run("check", "Plant/none").exit_code == 3
    assert run("check", "Plant/planning/drawings").exit_code == 2


def test_damage_is_named_with_exit_code_11_and_repaired(run: Run, bucket: Path) -> None:
    (pack,) = (bucket / KEYS.internal_prefix / "contents").iterdir()
    pack.unlink()
    said = run("check", "Plant")
    assert said.exit_code == 11
    (first, second) = said.stdout.splitlines()
    assert first.startswith("damage: drawings/a.dxf: the contents object ")
    assert second.endswith("pdfs check --repair lets go of the place that is none")
    assert said.stderr == (
        "pdfs: Plant/planning is damaged: 2 damaged places; what to do stands with each\n"
    )
    found = json.loads(run("check", "Plant", "--json").stdout)["findings"]
    assert [(each["level"], each["kind"]) for each in found] == [("damage", "content")] * 2
    said = run("check", "Plant", "--repair")
    assert said.exit_code == 0, said.output
    assert said.stdout.startswith("repaired: drawings/a.dxf: ")
    assert said.stdout.endswith("\nPlant/planning: no damage\n")
    assert run("check", "Plant", "--read").output == "Plant/planning: no damage\n"
    assert run("lock", "show", "Plant").output == "Plant/planning is not locked\n"
    assert run("recover", "list").output.startswith("nothing crashed here")


def test_what_another_tool_did_is_no_damage(run: Run, bucket: Path) -> None:
    (bucket / KEYS.plain_prefix / "list.csv").write_text("theirs")
    said = run("check", "Plant")
    assert said.exit_code == 0
    (line, last) = said.stdout.splitlines()
    assert line.startswith("foreign: list.csv: another tool replaced it; the next mount takes it")
    assert last == "Plant/planning: no damage; 1 change of another tool"
    assert run("check", "Plant", "--repair").exit_code == 0
    assert run("check", "Plant").output == "Plant/planning: no damage\n"
    assert (bucket / KEYS.plain_prefix / "list.csv").read_text() == "theirs"


def test_leftovers_are_named_and_removed_by_a_repair(run: Run, bucket: Path) -> None:
    left = bucket / KEYS.internal_prefix / "contents" / f"000000000001-{'f' * 32}"
    left.write_text("?")
    said = run("check", "Plant")
    assert said.exit_code == 0
    assert said.stdout.startswith(f"leftover: {KEYS.internal_prefix}contents/000000000001-fff")
    assert run("check", "Plant", "--repair").exit_code == 0
    assert not left.exists()


def test_a_stage_that_somebody_has_is_checked_but_not_repaired(
    run: Run, bucket: Path, configuration: Configuration
) -> None:
    (pack,) = (bucket / KEYS.internal_prefix / "contents").iterdir()
    pack.unlink()
    trio.run(take, configuration)
    assert run("check", "Plant").exit_code == 11
    said = run("check", "Plant", "--repair")
    assert said.exit_code == 4
    assert "locked by anna" in said.stderr
