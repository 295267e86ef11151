"""One person at a time: who has a stage, and how it can be taken."""

import json
import re
import subprocess
import time
from functools import partial
from pathlib import Path

import pytest
import trio

from pdfs.cli.bucket import opened_stage
from pdfs.config import configure
from pdfs.core.keys import StageKeys
from pdfs.core.lease import Claimant, LockState, Unpublished
from pdfs.disk import read_path
from pdfs.stage.start import start
from tests.e2e.conftest import MakeMachine
from tests.e2e.machines import LIMIT, PDFS, PROJECT, Bucket, Machine

AGE = 2.0


def test_a_stage_of_another_user_is_refused_and_says_who_and_since_when(
    bucket: Bucket, machine: MakeMachine
) -> None:
    anna, berta = machine(bucket), machine(bucket, "ws8", user="berta")
    (anna.mount("--create") / "drawing.dxf").write_text("drawn\n")
    ended = berta.run("mount", PROJECT, berta.mountpoint)
    assert ended.code == 4
    assert ended.err.count("\n") == 1
    said = r"locked by anna on ws7 since \d{4}-\d\d-\d\d [\d:]+ [+-]\d{4}, last seen \d+ s ago"
    assert re.search(said, ended.err), ended.err
    assert "--take-over" in ended.err
    assert "locked by anna on ws7" in berta.pdfs("lock", "show", PROJECT)
    assert "locked by anna on ws7" in berta.pdfs("ls", PROJECT)
    lock = json.loads(berta.pdfs("lock", "show", PROJECT, "--json"))["lock"]
    assert {"user", "since", "machine", "expires"} <= set(lock)
    anna.pdfs("umount", PROJECT)
    berta.mount()
    assert (berta.mountpoint / "drawing.dxf").read_text() == "drawn\n"


def test_the_same_stage_twice_on_one_machine_is_refused_and_says_where_it_is(
    bucket: Bucket, machine: MakeMachine
) -> None:
    here = machine(bucket)
    here.mount("--create")
    second = here.home / "second"
    second.mkdir()
    ended = here.run("mount", PROJECT, second)
    assert ended.code == 4
    assert str(here.mountpoint) in ended.err


@pytest.mark.figure(name="H4")
def test_two_stages_at_once_share_a_cache_and_nothing_else_and_never_a_mountpoint(
    bucket: Bucket, machine: MakeMachine
) -> None:
    here = machine(bucket)
    places = {"planning": here.mountpoint, "built": here.home / "built"}
    for _ in range(2):  # the second time from the cache
        for stage, place in places.items():
            here.pdfs("mount", PROJECT, place, "--stage", stage, "--create", "--wait")
        again = here.run("mount", PROJECT, here.mountpoint, "--stage", "third", "--create")
        assert (again.code, "is a mountpoint already" in again.err) == (7, True)
        for stage, place in places.items():
            if (place / "drawing").exists():
                assert (place / "drawing").read_text() == f"of {stage}"
                assert (place / "norm").read_bytes() == bytes(100_000)
            (place / "drawing").write_text(f"of {stage}")
            (place / "norm").write_bytes(bytes(100_000))
        for stage, place in places.items():
            here.pdfs("umount", place)
            assert "norm" in here.pdfs("ls", f"{PROJECT}/{stage}")
    assert here.sessions() == []


def test_the_same_user_elsewhere_takes_the_stage_after_a_while_and_a_yes(
    bucket: Bucket, machine: MakeMachine
) -> None:
    first, second = machine(bucket), machine(bucket, "ws8")
    (first.mount("--create") / "drawing.dxf").write_text("drawn\n")
    first.kill()
    second.timing["same_user_elsewhere"] = 600.0
    assert second.run("mount", PROJECT, second.mountpoint, "--yes").code == 4
    second.timing["same_user_elsewhere"] = AGE
    time.sleep(AGE)
    ended = second.run("mount", PROJECT, second.mountpoint)
    assert ended.code == 4
    assert "anna on ws7" in ended.err
    second.mount("--yes")
    (second.mountpoint / "other.dxf").write_text("other\n")
    second.pdfs("umount", PROJECT)
    assert "drawing.dxf" in first.pdfs("recover", "show", PROJECT)


def test_work_that_waited_while_others_published_is_merged(
    bucket: Bucket, machine: MakeMachine
) -> None:
    anna, berta = machine(bucket), machine(bucket, "ws8", user="berta")
    mounted = anna.mount("--create")
    for name in ("both.dxf", "hers.dxf", "mine.dxf"):
        (mounted / name).write_text("base\n")
    anna.pdfs("umount", PROJECT)
    anna.mount()
    for name in ("both.dxf", "mine.dxf", "new.dxf"):
        (mounted / name).write_text("by anna\n")
    anna.kill()
    berta.mount("--take-over")
    for name in ("both.dxf", "hers.dxf"):
        (berta.mountpoint / name).write_text("by berta\n")
    berta.pdfs("umount", PROJECT)
    ended = anna.run("recover", "resume", PROJECT)
    assert ended.code == 10
    assert "both (conflict anna ws7" in ended.err
    berta.mount()
    texts = {path.name: path.read_text() for path in berta.mountpoint.iterdir()}
    (copy,) = (name for name in texts if "(conflict anna ws7" in name)
    assert texts == {
        "both.dxf": "by berta\n",
        copy: "by anna\n",
        "hers.dxf": "by berta\n",
        "mine.dxf": "by anna\n",
        "new.dxf": "by anna\n",
    }
    assert bucket.directory is not None
    assert (bucket.directory / PROJECT / "planning" / copy).read_text() == "by anna\n"


def test_a_lock_that_was_damaged_meanwhile_holds_up_no_publish_and_is_told(
    bucket: Bucket, machine: MakeMachine
) -> None:
    anna, berta = machine(bucket), machine(bucket, "ws8", user="berta")
    (anna.mount("--create") / "drawing.dxf").write_text("drawn\n")
    assert bucket.directory is not None
    (bucket.directory / PROJECT / "planning.lock.json").write_text("{torn")
    ended = anna.run("umount", PROJECT)
    assert ended.code == 11
    assert "was published, but the lock" in ended.err
    assert "drawing.dxf" in anna.pdfs("ls", f"{PROJECT}/planning")
    assert anna.sessions() == []
    assert berta.run("mount", PROJECT, berta.mountpoint).code == 4
    berta.mount("--take-over")
    assert (berta.mountpoint / "drawing.dxf").read_text() == "drawn\n"


@pytest.mark.real_clock
async def test_a_stage_that_is_still_being_published_elsewhere_is_waited_for(
    bucket: Bucket, machine: MakeMachine, project: Path
) -> None:
    anna, berta = machine(bucket), machine(bucket, "ws8", user="berta")
    anna.pdfs("import", project, PROJECT)
    configuration = configure(anna.environ, {}, read_path)
    async with opened_stage(configuration, StageKeys(PROJECT, "planning")) as ctx:
        owner = ctx.owner
        claimant = Claimant(user=owner.user, session=owner.session, run=owner.run)
        lock = (await start(ctx, claimant)).lock
        await lock.renew(state=LockState.DRAINING, pending=Unpublished(files=2, bytes=2048))
        mount = ("mount", PROJECT, berta.mountpoint)
        refused = await trio.to_thread.run_sync(partial(berta.run, *mount, "--wait-lock", "1"))
        assert (refused.code, "(draining)" in refused.err) == (4, True)
        await lock.renew()
        waiting = await trio.to_thread.run_sync(
            partial(
                subprocess.Popen,
                [PDFS, *mount],
                env=berta.environ,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        assert waiting.stderr is not None
        said = await trio.to_thread.run_sync(waiting.stderr.readline)
        assert "still being published by anna on ws7: 2 files (2.0 KiB) left there" in said
        await lock.release(Unpublished())
        with waiting:
            assert await trio.to_thread.run_sync(waiting.wait, LIMIT) == 0
    assert berta.mountpoint.is_mount()
    berta.pdfs("umount", PROJECT)


def wait_counted(machine: Machine) -> None:
    """Return when the lock has been renewed since something was written."""
    deadline = time.monotonic() + LIMIT
    while not json.loads(machine.pdfs("lock", "show", PROJECT, "--json"))["lock"]["pending"][
        "files"
    ]:
        assert time.monotonic() < deadline, "the lock is not renewed"


def test_a_broken_lock_frees_the_stage_and_its_former_owner_keeps_the_work(
    bucket: Bucket, machine: MakeMachine
) -> None:
    anna, berta = machine(bucket), machine(bucket, "ws8", user="berta")
    mounted = anna.mount("--create")
    (mounted / "drawing.dxf").write_text("drawn\n")
    wait_counted(berta)
    assert berta.run("lock", "break", PROJECT).code == 2
    berta.pdfs("lock", "break", PROJECT, "--yes", "--reason", "anna is away")
    log = (berta.home / "state/pdfs/logs/lock-breaks.log").read_text()
    assert json.loads(log)["reason"] == "anna is away"
    asked = berta.run("mount", PROJECT, berta.mountpoint, "--create")
    assert asked.code == 4
    assert "is free, but anna left 1 file (6 bytes) unpublished on ws7" in asked.err
    berta.mount("--create", "--yes")
    berta.pdfs("umount", PROJECT)
    ended = anna.run("umount", mounted)
    assert ended.code == 9
    assert "drawing.dxf" in anna.pdfs("recover", "show", PROJECT)
