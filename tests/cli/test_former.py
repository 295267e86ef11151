"""A default bucket that was another directory before is told: it looks like no project at all."""

from pathlib import Path

import pytest

from pdfs.config import Configuration
from pdfs.core.ids import RunId
from pdfs.disk import OsDisk
from pdfs.local.session_log import SessionLog
from pdfs.local.session_log_format import LogHeader
from pdfs.local.state import StateDirectory
from tests.cli.conftest import Run
from tests.cli.daemons import SESSION


@pytest.fixture
def former(configuration: Configuration, tmp_path: Path) -> str:
    """The bucket of a session that was mounted here with another XDG_DATA_HOME."""
    (tmp_path / "former" / "pdfs" / "bucket").mkdir(parents=True)
    bucket = f"file://{tmp_path}/former/pdfs/bucket"
    header = LogHeader(
        session=SESSION,
        run=RunId("0" * 32),
        project="Plant",
        stage="planning",
        user="anna",
        machine="ws7",
        bucket=bucket,
        mountpoint="/mnt/plant",
        pid=4711,
        pdfs="0",
    )
    with (
        StateDirectory(OsDisk(), configuration.state),
        SessionLog(OsDisk(), configuration.state / "logs", header, now=lambda: 1.0),
    ):
        pass
    return bucket


def test_a_list_of_nothing_says_where_the_projects_are(run: Run, former: str) -> None:
    said = run("ls")
    assert (said.exit_code, said.stdout) == (0, "")
    assert f"is in {former}: name that with --bucket" in said.stderr


@pytest.mark.parametrize("command", [("ls", "Plant"), ("lock", "show", "Plant")])
def test_a_project_that_is_not_found_may_be_where_the_bucket_was(
    run: Run, former: str, command: tuple[str, ...]
) -> None:
    said = run(*command)
    assert said.exit_code == 3
    assert former in said.stderr


def test_a_mount_makes_no_bucket_beside_the_former_one_unless_it_is_to_create_a_project(
    run: Run, former: str, tmp_path: Path, configuration: Configuration
) -> None:
    (tmp_path / "mnt").mkdir()
    said = run("mount", "Plant", tmp_path / "mnt")
    assert said.exit_code == 3
    assert former in said.stderr
    assert not Path(configuration.bucket.removeprefix("file://")).exists()


def test_an_import_says_that_the_bucket_is_a_new_one(run: Run, former: str, tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "a").write_text("1")
    said = run("import", tmp_path / "source", "Other")
    assert said.exit_code == 0
    assert former in said.stderr
    assert run("ls").stderr == "", "now it is there"


@pytest.mark.usefixtures("former")
def test_a_bucket_that_was_named_is_where_the_user_says(run: Run, tmp_path: Path) -> None:
    (tmp_path / "named").mkdir()
    said = run("--bucket", f"file://{tmp_path}/named", "ls")
    assert "XDG_DATA_HOME" not in said.stderr
