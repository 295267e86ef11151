"""`pdfs check` on a directory that plays the bucket."""

import json
from pathlib import Path

import pytest
import trio

from pdfs.config import Configuration
from tests.cli.conftest import Run
from tests.cli.daemons import SESSION, description
from tests.cli.test_lock import KEYS, take
from tests.local.left import leave_crashed


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


def test_a_stage_whose_root_was_deleted_is_refused_and_brought_back(run: Run, bucket: Path) -> None:
    (bucket / KEYS.root).unlink()
    there = bucket.parent / "mountpoint"
    for command in (
        ("ls", "Plant/planning"),
        ("mount", "Plant", "--read-only"),
        ("mount", "Plant"),
    ):
        refused = run(*command, *[there] * (command[0] == "mount"))
        assert refused.exit_code == 11, refused.output
        assert "pdfs check Plant/planning says what is left, and with --repair brings it back" in (
            refused.stderr
        )
    assert run("recover", "list").stdout.startswith("nothing crashed here")
    said = run("check", "Plant")
    assert said.exit_code == 11
    assert said.stdout.startswith(
        "damage: root.json: the root is gone, and other objects of the stage are there; "
        "nobody can mount the stage; pdfs check --repair brings back generation 1, published "
    )
    assert not (bucket / KEYS.root).exists()
    said = run("check", "Plant", "--read", "--repair")
    assert said.exit_code == 0, said.output
    assert said.stdout.startswith("repaired: root.json: the root is gone")
    assert said.stdout.endswith("Plant/planning: no damage; 1 piece of unfinished work\n")
    again = run("check", "Plant", "--read", "--repair")
    assert again.exit_code == 0
    assert again.stdout.startswith("waiting: root.json: a repair made it anew; until ")
    assert "list.csv" in run("ls", "Plant/planning").stdout


def test_what_a_lost_generation_takes_with_it_is_told_with_exit_code_11(
    run: Run, bucket: Path
) -> None:
    trees = bucket / KEYS.internal_prefix / "trees"
    (committed, settled) = sorted(trees.iterdir(), key=lambda tree: tree.stat().st_mtime_ns)
    settled.write_bytes(settled.read_bytes()[:50])
    (bucket / KEYS.root).unlink()
    said = run("check", "Plant", "--repair")
    assert said.exit_code == 11
    words = "generation 1 was brought back: a newer one may be among the trees that can't be read"
    assert words in said.stderr
    assert committed.exists()
    assert run("check", "Plant", "--read").exit_code == 0


def test_without_any_tree_nothing_is_brought_back_and_the_way_out_is_told(
    run: Run, bucket: Path
) -> None:
    for tree in (bucket / KEYS.internal_prefix / "trees").iterdir():
        tree.unlink()
    (bucket / KEYS.root).unlink()
    for arguments in ((), ("--repair",)):
        said = run("check", "Plant", *arguments)
        assert said.exit_code == 11
        assert "who removes all below .pdfs/STAGE/ begins anew with them" in said.stdout
    assert not (bucket / KEYS.root).exists()


def test_conflict_copies_of_a_repair_are_named_with_exit_code_10(run: Run, bucket: Path) -> None:
    trees = bucket / KEYS.internal_prefix / "trees"
    (_, settled) = sorted(trees.iterdir(), key=lambda tree: tree.stat().st_mtime_ns)
    settled.unlink()  # so the publish is carried out once more
    (bucket / KEYS.root).unlink()
    theirs = bucket / KEYS.plain_prefix / "list.csv"
    theirs.unlink()
    theirs.write_text("theirs")
    said = run("check", "Plant", "--repair")
    assert said.exit_code == 10, said.output
    assert "conflict copies were made: list (conflict anna ws7 " in said.stderr
    assert theirs.read_text() == "theirs"
    (copy,) = [path for path in theirs.parent.iterdir() if "(conflict" in path.name]
    assert copy.read_text() == "1;2\n"
    assert run("check", "Plant", "--read").exit_code == 0


def test_work_that_waits_here_is_told_and_does_not_keep_a_root_away(
    run: Run, bucket: Path, configuration: Configuration
) -> None:
    described = {**description(configuration), "project": "Plant", "stage": "planning"}
    leave_crashed(configuration.state, described, SESSION, {"list": b"drawn"})
    said = run("check", "Plant")
    assert said.exit_code == 0
    assert said.stdout.startswith(f"waiting: {SESSION}: a session of anna was cut short here, ")
    assert f"pdfs recover resume {SESSION[:8]} publishes it" in said.stdout
    (bucket / KEYS.root).unlink()
    said = run("check", "Plant", "--repair", "--json")
    assert said.exit_code == 0, said.output
    told = json.loads(said.stdout)
    assert [each["kind"] for each in told["repaired"]] == ["root"]
    assert {each["kind"] for each in told["findings"]} == {"restored", "crashed"}
    (bucket / KEYS.plain_prefix / "list.csv").write_text("theirs")
    said = run("check", "Plant", "--repair")
    assert said.exit_code == 9
    assert f"first pdfs recover resume {SESSION[:8]}, or discard; then repair" in said.stderr


def test_a_stage_that_somebody_has_is_repaired_with_a_take_over(
    run: Run, bucket: Path, configuration: Configuration
) -> None:
    trio.run(take, configuration)
    (bucket / KEYS.root).unlink()
    said = run("check", "Plant", "--repair")
    assert said.exit_code == 4
    assert "--take-over" in said.stderr
    assert not (bucket / KEYS.root).exists()
    said = run("check", "Plant", "--repair", "--take-over")
    assert said.exit_code == 0, said.output
    assert "locked by anna" in run("lock", "show", "Plant").stdout
    assert run("check", "Plant", "--take-over").exit_code == 2
