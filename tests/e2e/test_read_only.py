"""Read-only mounts of real stages: beside their editor, on any store, and gone without a trace."""

import errno
import os
import random
import signal
import subprocess
import time
import uuid
from contextlib import suppress
from pathlib import Path

import pytest

from pdfs.cli.control import Control
from pdfs.config import configure
from pdfs.disk import read_path
from tests.conftest import LENGTH, SEED, Reached
from tests.e2e.conftest import MakeMachine
from tests.e2e.machines import (
    PROJECT,
    Bucket,
    Machine,
    describe,
    directory_bucket,
    end_process,
    server_bucket,
)
from tests.lengths import Length
from tests.store.running import each_that_ignores_conditions
from tests.store.servers import Server, admin_client

KINDS = ["file", "moto", "seaweed"]
SOME_KINDS = [random.Random(SEED).choice(KINDS)] if LENGTH == Length.SAMPLE else KINDS
FOLLOW = {"follow": 0.2}
"""Seconds; the timing of who follows."""


def look(machine: Machine, *options: str, name: str = "look") -> Path:
    """Mount the project read-only, wherever."""
    place = machine.home / name
    machine.pdfs("mount", PROJECT, place, "--read-only", *options)
    return place


def reader_at(machine: Machine, place: Path) -> dict[str, object]:
    """What `pdfs status` says of a read-only mount."""
    (found,) = [each for each in machine.sessions() if each["mountpoint"] == str(place)]
    assert isinstance(found["reader"], dict)
    return found["reader"]


def wait_generation(machine: Machine, place: Path, generation: int) -> None:
    """Return when a mount that follows shows it."""
    (session,) = [each for each in machine.sessions() if each["mountpoint"] == str(place)]
    runtime = configure(machine.environ, {}, read_path).runtime
    with Control(runtime, session["session"]) as control:
        while control.ask("status", timeout=None)["reader"]["generation"] != generation:
            time.sleep(0.05)


def wait_gone(pid: int) -> None:
    """Return when a process has ended by itself."""
    while Path(f"/proc/{pid}/cmdline").exists() and Path(f"/proc/{pid}/cmdline").read_bytes():
        time.sleep(0.02)


def assert_unchangeable(directory: Path) -> None:
    for change in (
        lambda: (directory / "new").write_bytes(b"x"),
        lambda: (directory / "new").mkdir(),
        lambda: os.unlink(next(directory.glob("*"))),
        lambda: os.utime(directory),
    ):
        with pytest.raises(OSError, check=lambda error: error.errno == errno.EROFS):
            change()


@pytest.mark.parametrize("any_bucket", SOME_KINDS, indirect=True)
def test_a_stage_is_read_beside_its_editor_each_mount_in_its_own_generation(
    any_bucket: Bucket, machine: MakeMachine, project: Path
) -> None:
    anna = machine(any_bucket)
    anna.pdfs("import", project, PROJECT)
    first = describe(project)
    edited = anna.mount()
    bert = machine(any_bucket, "ws8", user="bert", timing={**anna.timing, **FOLLOW})
    held, followed = look(bert), look(bert, "--follow", name="follow")
    beside = look(anna)
    assert describe(held) == describe(followed) == describe(beside) == first
    assert_unchangeable(held)

    assert not (followed / "later").exists()
    with open(followed / "lists/lines.csv", "rb") as opened:
        before = opened.read(4)
        (edited / "lists/lines.csv").write_bytes(b"another text\n")
        (edited / "scripts/export.sh").chmod(0o700)
        (edited / "later").mkdir()
        (edited / "later/new.dxf").write_bytes(b"new")
        anna.pdfs("publish", edited)
        wait_generation(bert, followed, 2)
        # By name alone: a listing would make the kernel look again.
        assert (followed / "later/new.dxf").read_bytes() == b"new"
        assert (followed / "lists/lines.csv").read_bytes() == b"another text\n"
        assert before + opened.read() == (held / "lists/lines.csv").read_bytes()
        assert os.stat(opened.fileno()).st_size == (held / "lists/lines.csv").stat().st_size
    assert describe(followed) == describe(edited)
    assert describe(held) == describe(beside) == first
    assert reader_at(bert, held)["generation"] == 1

    (session,) = [each["session"] for each in anna.sessions() if not each.get("reader")]
    subprocess.run(["fusermount3", "-u", edited], check=True)
    assert anna.run("umount", session).code in (0, 3)  # it may have ended
    assert describe(beside) == first, "the unmount of one mount took another away"
    bert.pdfs("umount", followed)
    assert "it was read-only" in bert.pdfs("umount", PROJECT)
    subprocess.run(["fusermount3", "-u", beside], check=True)
    anna.wait_released()
    assert bert.sessions() == []
    assert not followed.exists(), "the mountpoint was made for the mount"


@pytest.mark.figure(name="S7")
@pytest.mark.parametrize("name", each_that_ignores_conditions())
def test_a_store_that_ignores_conditions_is_refused_for_editing_and_can_be_read(
    name: str,
    request: pytest.FixtureRequest,
    machine: MakeMachine,
    project: Path,
    tmp_path: Path,
    reached: Reached,
) -> None:
    server: Server = request.getfixturevalue(name)
    source = directory_bucket(tmp_path / "bucket")
    anna = machine(source)
    anna.pdfs("import", project, PROJECT)
    prefix = uuid.uuid4().hex
    client = admin_client(server)
    for path in (tmp_path / "bucket" / PROJECT).rglob("*"):
        if path.is_file():
            key = f"{prefix}/{path.relative_to(tmp_path / 'bucket')}"
            client.put_object(Bucket=server.bucket, Key=key, Body=path.read_bytes())
    client.close()
    bert = machine(server_bucket(server, prefix), "ws8", user="bert")
    refused = bert.run("mount", PROJECT, bert.mountpoint)
    assert refused.code == 6
    assert "ignores the condition" in refused.err
    assert "to look only: pdfs mount --read-only" in refused.err
    place = look(bert)
    assert describe(place) == describe(project)
    bert.pdfs("umount", place)
    reached(1, f"stores refused: {server.kind}")


def test_a_bucket_without_a_published_stage_is_read_as_it_lies_there(
    bucket: Bucket, machine: MakeMachine
) -> None:
    assert bucket.directory is not None
    stage = bucket.directory / PROJECT / "planning"
    (stage / "drawings").mkdir(parents=True)
    (stage / "drawings/plan.dwg").write_bytes(b"by another tool")
    here = machine(bucket)
    place = look(here)
    assert (place / "drawings/plan.dwg").read_bytes() == b"by another tool"
    assert reader_at(here, place)["generation"] == 0
    assert_unchangeable(place)
    here.pdfs("umount", place)
    assert sorted(path.name for path in (bucket.directory / PROJECT).iterdir()) == ["planning"]


def test_the_end_of_a_read_only_mount_is_immediate_however_it_comes(
    bucket: Bucket, machine: MakeMachine, project: Path
) -> None:
    here = machine(bucket)
    here.pdfs("import", project, PROJECT)
    place = look(here)
    used = os.open(place / "lists/lines.csv", os.O_RDONLY)
    busy = here.run("umount", place)
    assert (busy.code, "is in use by" in busy.err) == (7, True)
    assert (place / "lists/lines.csv").exists()
    (session,) = here.sessions()
    os.kill(session["pid"], signal.SIGTERM)
    wait_gone(session["pid"])
    with suppress(OSError):  # it is cut off
        os.close(used)
    assert here.sessions() == []

    place = look(here, name="killed")
    (session,) = here.sessions()
    end_process(session["pid"])
    assert "its daemon is dead" in here.pdfs("status")
    assert "is unmounted" in here.pdfs("umount", place)
    assert here.sessions() == []
    assert not place.exists()

    look(here, name="left")
    (session,) = here.sessions()
    end_process(session["pid"])
    subprocess.run(["fusermount3", "-u", "-z", here.home / "left"], check=True)
    here.pdfs("umount", look(here, name="again"))
    assert here.sessions() == [], "what a crash left goes at the next mount"
