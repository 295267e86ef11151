"""Bad input and broken surroundings: one line that says what to do, an exit code, nothing lost."""

import os
import subprocess
import uuid
from dataclasses import replace
from pathlib import Path

import pytest

from tests.e2e.conftest import MakeMachine
from tests.e2e.machines import (
    PDFS,
    PROJECT,
    Bucket,
    Ended,
    Machine,
    directory_bucket,
    server_bucket,
)
from tests.store.servers import Server, admin_client


def assert_refused(ended: Ended, code: int, *words: str) -> None:
    """It ended with that code, and with one line on stderr that has these words."""
    assert ended.code == code, ended
    last = ended.err.splitlines()[-1]
    assert last.startswith("pdfs: "), ended.err
    assert "Traceback" not in ended.err
    for word in words:
        assert word in last, ended.err


@pytest.fixture
def here(bucket: Bucket, machine: MakeMachine) -> Machine:
    """A machine with a project in its bucket."""
    made = machine(bucket)
    source = made.home / "source"
    source.mkdir()
    (source / "drawing.dxf").write_text("drawn\n")
    made.pdfs("import", source, PROJECT)
    return made


def test_mountpoints_and_names_that_can_not_be_are_refused(here: Machine) -> None:
    file = here.home / "file"
    file.write_text("x")
    full = here.home / "source"
    empty = here.mountpoint
    assert_refused(
        here.run("mount", PROJECT, here.home / "no" / "ne"), 7, "does not exist", "mkdir"
    )
    assert_refused(here.run("mount", PROJECT, file), 7, "not a directory")
    assert_refused(here.run("mount", PROJECT, full), 7, "not empty: drawing.dxf")
    assert_refused(here.run("mount", "Nothing", empty), 3, "no project 'Nothing'", "--create")
    assert_refused(
        here.run("mount", PROJECT, empty, "--stage", "built"), 3, "no stage 'built'", "--create"
    )
    assert_refused(here.run("mount", "a/b", empty), 2, "can't be the name of a project")
    assert_refused(here.run("mount", PROJECT), 2, "MOUNTPOINT", "pdfs mount --help")
    assert_refused(here.run("umount", empty), 3, "pdfs status")
    assert_refused(here.run("import", full, PROJECT), 2, "already")
    assert_refused(here.run("import", here.home / "none", "New"), 3, "no directory")
    assert_refused(here.run("ls", "Nothing"), 3, "no project 'Nothing'")
    assert_refused(here.run("ls", f"{PROJECT}/planning/none"), 3, "no 'none'")
    assert list(empty.iterdir()) == []


def test_a_mountpoint_in_use_is_refused_and_one_of_a_dead_daemon_is_cleaned_up(
    here: Machine,
) -> None:
    mounted = here.mount()
    assert_refused(here.run("mount", PROJECT, mounted), 7, "mountpoint already", "pdfs umount")
    here.kill()
    with pytest.raises(OSError, match=r"not connected|connection abort"):
        os.listdir(mounted)
    here.mount()
    assert (mounted / "drawing.dxf").read_text() == "drawn\n"
    here.pdfs("umount", mounted)


def test_a_bare_directory_is_no_mount(here: Machine) -> None:
    (here.mountpoint / "saved-too-early.dxf").write_text("stray\n")
    assert_refused(here.run("umount", here.mountpoint), 3, "nothing mounted", "not in the bucket")
    assert_refused(here.run("mount", PROJECT, here.mountpoint), 7, "saved-too-early.dxf")
    assert (here.mountpoint / "saved-too-early.dxf").read_text() == "stray\n"


def test_buckets_that_can_not_be_used_are_refused(
    machine: MakeMachine, seaweed: Server, rclone: Server, tmp_path: Path
) -> None:
    def refused(bucket: Bucket, code: int, *words: str) -> None:
        here = machine(bucket)
        assert_refused(here.run("mount", PROJECT, here.mountpoint, "--create"), code, *words)
        assert not here.mountpoint.is_mount()

    away = server_bucket(seaweed, "x")
    away = replace(away, environ={**away.environ, "PDFS_ENDPOINT_URL": "http://127.0.0.1:1"})
    refused(away, 5, "127.0.0.1:1")
    stranger = server_bucket(seaweed, "x")
    stranger = replace(stranger, environ={**stranger.environ, "AWS_SECRET_ACCESS_KEY": "wrong"})
    refused(stranger, 5, "check the access key")
    refused(server_bucket(rclone, "x"), 6, "If-None-Match", "--read-only")
    gone = directory_bucket(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    refused(gone, 5, str(tmp_path / "gone"))
    nonsense = Bucket(kind="none", environ={"PDFS_BUCKET": "ftp://somewhere"})
    refused(nonsense, 2, "s3://bucket/prefix")


def test_keys_that_no_file_can_have_are_skipped_and_told(
    moto: Server, machine: MakeMachine
) -> None:
    prefix = uuid.uuid4().hex
    client = admin_client(moto)
    stage = f"{prefix}/{PROJECT}/planning"
    for name in ("good.dxf", "a//b", "a/../../../escape", "x" * 300, "d/", "n", "n/below"):
        client.put_object(Bucket=moto.bucket, Key=f"{stage}/{name}", Body=b"theirs")
    client.close()
    here = machine(server_bucket(moto, prefix))
    mounted = here.mount()
    assert (mounted / "good.dxf").read_bytes() == b"theirs"
    assert not (here.home / "escape").exists()
    (session,) = here.sessions()
    told = {path for path, _ in session["warnings"]}
    assert {"a//b", "a/../../../escape", "x" * 300} <= told
    (mounted / "mine.dxf").write_text("mine\n")
    here.pdfs("umount", mounted)
    client = admin_client(moto)
    left = client.list_objects_v2(Bucket=moto.bucket, Prefix=f"{stage}/")["Contents"]
    client.close()
    assert {"a//b", "a/../../../escape", "x" * 300, "mine.dxf"} <= {
        found["Key"].removeprefix(f"{stage}/") for found in left
    }


# --- in a mount name space of its own: what only root can break -------------------------------


def in_own_space(here: Machine, script: str) -> Ended:
    """Run a shell script that may mount what it likes; `pdfs` is $PDFS, the mountpoint $MNT."""
    environ = {**here.environ, "PDFS": str(PDFS), "MNT": str(here.mountpoint)}
    environ |= {"STATE": str(here.home / "state"), "PROJECT": PROJECT, "SCRATCH": str(here.home)}
    done = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "bash", "-euc", script],
        env=environ,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    return Ended(done.returncode, done.stdout, done.stderr)


def test_a_machine_without_fuse_is_told_so(here: Machine) -> None:
    script = 'touch $SCRATCH/f; mount --bind $SCRATCH/f /dev/fuse; "$PDFS" mount $PROJECT $MNT'
    assert_refused(in_own_space(here, script), 7, "/dev/fuse", "--device /dev/fuse")


def test_a_user_without_the_right_to_fuse_is_told_so(here: Machine) -> None:
    script = """
        mknod $SCRATCH/fuse c 10 229
        chmod 600 $SCRATCH/fuse
        mount --bind $SCRATCH/fuse /dev/fuse
        mount -t tmpfs -o mode=1777 none /mnt
        mkdir --mode 777 /mnt/point
        exec setpriv --reuid 65534 --regid 65534 --clear-groups --inh-caps -all,+dac_read_search \
            --ambient-caps -all,+dac_read_search \
            env XDG_STATE_HOME=/mnt/own "$PDFS" mount $PROJECT /mnt/point
    """
    assert_refused(in_own_space(here, script), 7, "no right to use /dev/fuse", "chmod 666")


def test_a_full_disk_is_enospc_and_nothing_that_was_closed_is_lost(here: Machine) -> None:
    script = """
        mkdir -p $STATE; mount -t tmpfs -o size=24m,mode=700 none $STATE
        "$PDFS" mount $PROJECT $MNT >/dev/null
        echo kept >$MNT/kept.txt
        head --bytes 60M /dev/zero >$MNT/large && exit 99
        cat $MNT/kept.txt; rm $MNT/large
        "$PDFS" umount $MNT
    """
    ended = in_own_space(here, script)
    assert ended.code == 0, ended
    assert "No space left on device" in ended.err
    assert ended.out.startswith("kept\n")
    assert "kept.txt" in here.pdfs("ls", f"{PROJECT}/planning")
