"""`pdfs lock`: who has a stage, and breaking a lock."""

import json
from pathlib import Path

import pytest
import trio

from pdfs.cli.bucket import opened_stage
from pdfs.config import Configuration
from pdfs.core.ids import RunId, SessionId
from pdfs.core.keys import StageKeys
from pdfs.core.lease import Claimant, Refusal, Unpublished, decode, judge
from pdfs.stage.start import start
from tests.cli.conftest import Run

KEYS = StageKeys("Plant", "planning")


async def take(configuration: Configuration) -> None:
    """Lock the stage, with two files unpublished."""
    async with opened_stage(configuration, KEYS) as ctx:
        owner = ctx.owner
        claimant = Claimant(user=owner.user, session=owner.session, run=owner.run)
        started = await start(ctx, claimant)
        await started.lock.renew(pending=Unpublished(files=2, bytes=2048))


@pytest.fixture
def locked(imported: Path, configuration: Configuration) -> None:
    """The stage has an owner whose process is nowhere to be seen."""
    trio.run(take, configuration)


@pytest.mark.usefixtures("imported")
def test_a_stage_that_is_not_locked_is_shown_so(run: Run) -> None:
    assert run("lock", "show", "Plant").output == "Plant/planning is not locked\n"
    assert json.loads(run("lock", "show", "Plant", "--json").output)["lock"] is None
    assert run("lock", "show", "Nothing").exit_code == 3
    for action in ("show", "break"):
        said = run("lock", action, "Plant", "--stage", "none")
        assert said.exit_code == 3
        assert "project 'Plant' has no stage 'none'" in said.stderr


@pytest.mark.usefixtures("locked")
def test_a_lock_is_shown_with_owner_age_and_unpublished_work(run: Run) -> None:
    said = run("lock", "show", "Plant").output
    assert said.startswith("Plant/planning is locked by anna on ws7\n")
    assert "2 files (2.0 KiB), as of then" in said
    assert "last seen" in said
    lock = json.loads(run("lock", "show", "Plant", "--json").output)["lock"]
    assert (lock["user"], lock["machine"], lock["state"]) == ("anna", "ws7", "active")
    assert run("ls", "Plant").output == "planning  generation 1  locked by anna on ws7\n"


def test_a_torn_lock_is_reported_as_what_it_is(
    run: Run, imported: Path, configuration: Configuration
) -> None:
    bucket = Path(configuration.bucket.removeprefix("file://"))
    (bucket / KEYS.lock).write_text('{"user": "anna')
    said = run("lock", "show", "Plant")
    assert said.exit_code == 4
    assert "not one that this PDFS can read" in said.stderr
    assert run("lock", "break", "Plant", "--yes").exit_code == 0
    assert run("lock", "show", "Plant").output == "Plant/planning is not locked\n"


@pytest.mark.usefixtures("locked")
def test_breaking_a_lock_wants_yes_keeps_a_log_and_frees_the_stage(
    run: Run, configuration: Configuration
) -> None:
    said = run("lock", "break", "Plant")
    assert said.exit_code == 2
    assert "anna on ws7" in said.stderr
    assert said.stderr.endswith("; to take it away: --yes\n")
    assert "locked by anna" in run("lock", "show", "Plant").output
    said = run("lock", "break", "Plant", "--yes", "--reason", "laptop was stolen")
    assert said.exit_code == 0
    assert "2 files (2.0 KiB) of anna stay unpublished on ws7" in said.stdout
    log = Path(configuration.state) / "logs" / "lock-breaks.log"
    assert json.loads(log.read_text())["reason"] == "laptop was stolen"
    assert run("lock", "break", "Plant", "--yes").output == "Plant/planning is not locked\n"


@pytest.mark.usefixtures("imported")
def test_a_broken_lock_tells_the_next_owner_whose_unpublished_work_waits_where(
    run: Run, configuration: Configuration, monkeypatch: pytest.MonkeyPatch
) -> None:
    trio.run(take, configuration)
    before = json.loads(run("lock", "show", "Plant", "--json").output)["lock"]
    monkeypatch.setenv("PDFS_USER", "berta")
    monkeypatch.setenv("PDFS_MACHINE", "ws8")
    assert run("lock", "break", "Plant", "--yes").exit_code == 0
    said = run("lock", "show", "Plant").output
    assert said == (
        "Plant/planning is not locked, but anna left 2 files (2.0 KiB) unpublished on ws7\n"
    )
    marker = json.loads(run("lock", "show", "Plant", "--json").output)["lock"]
    assert marker["session"] == before["session"], "who comes back with it is not asked"
    assert marker["run"] != before["run"], "its process has lost it"
    lock = decode(KEYS.lock, json.dumps(marker).encode())
    berta = Claimant(user="berta", session=SessionId("b" * 32), run=RunId("b" * 32))
    assert judge(lock, 1.0, berta, configuration.timing) is Refusal.WORK_WAITS


@pytest.mark.usefixtures("imported")
def test_a_session_that_the_lock_does_not_count_is_shown_until_it_ends(
    run: Run, configuration: Configuration
) -> None:
    async def cut_off() -> None:
        async with opened_stage(configuration, KEYS) as ctx:
            owner = ctx.owner
            await start(ctx, Claimant(user=owner.user, session=owner.session, run=owner.run))

    trio.run(cut_off)
    assert "has not ended" not in run("lock", "show", "Plant").output, "it has the lock"
    assert run("lock", "break", "Plant", "--yes").exit_code == 0
    said = run("lock", "show", "Plant").output
    assert said.startswith("Plant/planning is not locked\n")
    assert "a session of anna on ws7 (" in said
    assert "has not ended: what it has not published, if anything, waits there\n" in said
