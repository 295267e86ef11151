"""How unmounting ends: 0 only when everything is verified in the bucket and the lock released."""

import os
import random
import signal
import subprocess
import time
from pathlib import Path

from tests.e2e.conftest import MakeMachine
from tests.e2e.machines import (
    LIMIT,
    PDFS,
    PROJECT,
    Bucket,
    server_bucket,
    stopped,
)
from tests.store.servers import Server


def test_umount_ends_with_9_while_the_bucket_is_away_and_with_0_when_it_is_back(
    moto: Server, machine: MakeMachine
) -> None:
    here = machine(server_bucket(moto, "away"))
    mounted = here.mount("--create")
    (mounted / "drawing.dxf").write_text("drawn\n")
    with stopped(moto.pid):
        ended = here.run("umount", mounted, "--timeout", "3")
        assert ended.code == 9
        assert "the daemon goes on" in ended.err
        assert not mounted.is_mount()
        (session,) = here.sessions()
        assert session["state"] == "UPLOADING"
        assert session["unpublished"] == {"files": 1, "bytes": 6}
        assert (session["upload"]["bytes"], session["upload"]["of_bytes"]) == (0, 6)
        waiting = subprocess.Popen(
            [PDFS, "umount", PROJECT], env=here.environ, stdout=subprocess.PIPE, text=True
        )
        here.wait_logged("asked", 2, what="umount")
    said, _ = waiting.communicate(timeout=LIMIT)
    assert (waiting.returncode, "the lock is released" in said) == (0, True)
    here.wait_released()
    assert "drawing.dxf" in here.pdfs("ls", f"{PROJECT}/planning")


def test_a_mount_of_a_stage_that_still_drains_waits_for_it(
    moto: Server, machine: MakeMachine
) -> None:
    here = machine(server_bucket(moto, "draining"))
    mounted = here.mount("--create")
    (mounted / "drawing.dxf").write_text("drawn\n")
    with stopped(moto.pid):
        subprocess.run(["fusermount3", "-u", mounted], check=True)
        waiting, interrupted = (
            subprocess.Popen(
                [PDFS, "mount", PROJECT, mounted],
                env=here.environ,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
            for _ in range(2)
        )
        for each in (waiting, interrupted):
            assert each.stderr is not None
            assert "is still being published" in each.stderr.readline()
        here.wait_logged("asked", 2, what="mount")
        assert not [line for line in here.logged() if line.get("what") == "umount"]
        interrupted.send_signal(signal.SIGINT)
        _, said = interrupted.communicate(timeout=LIMIT)
        assert (interrupted.returncode, said.strip()) == (130, "pdfs: interrupted")
        impatient = here.run("mount", PROJECT, mounted, "--wait-lock", "0")
        assert (impatient.code, "is still being published" in impatient.err) == (4, True)
    with waiting:
        assert waiting.wait(LIMIT) == 0
    assert (mounted / "drawing.dxf").read_text() == "drawn\n"
    here.pdfs("umount", mounted)


def test_a_conflict_ends_with_10_and_both_versions_are_in_the_bucket(
    bucket: Bucket, machine: MakeMachine
) -> None:
    here = machine(bucket)
    mounted = here.mount("--create")
    (mounted / "list.csv").write_text("ours\n")
    here.pdfs("umount", mounted)
    here.mount()
    assert bucket.directory is not None
    plain = bucket.directory / PROJECT / "planning"
    here.wait_logged("taken_in")  # what comes later is a conflict
    (mounted / "list.csv").write_text("ours, changed\n")
    (plain / "list.csv").write_text("theirs\n")
    ended = here.run("umount", mounted)
    assert ended.code == 10
    assert "list" in ended.err
    assert {path.read_text() for path in plain.iterdir()} == {"theirs\n", "ours, changed\n"}


def test_a_busy_mount_stays_and_the_program_is_named(bucket: Bucket, machine: MakeMachine) -> None:
    here = machine(bucket)
    mounted = here.mount("--create")
    with subprocess.Popen(["sleep", "60"], cwd=mounted) as sleeping:
        ended = here.run("umount", mounted)
        assert ended.code == 7
        assert f"sleep ({sleeping.pid})" in ended.err
        assert mounted.is_mount()
        sleeping.kill()
    here.pdfs("umount", mounted)


def test_a_signal_to_the_daemon_is_an_unmount(bucket: Bucket, machine: MakeMachine) -> None:
    here = machine(bucket)
    mounted = here.mount("--create")
    (mounted / "drawing.dxf").write_text("drawn\n")
    (session,) = here.sessions()
    subprocess.run(["kill", f"-{signal.SIGTERM}", str(session["pid"])], check=True)
    here.wait_released()
    assert "drawing.dxf" in here.pdfs("ls", f"{PROJECT}/planning")


def test_who_stops_waiting_for_an_umount_does_not_stop_the_publish(
    moto: Server, machine: MakeMachine
) -> None:
    here = machine(server_bucket(moto, "impatient"))
    mounted = here.mount("--create")
    (mounted / "drawing.dxf").write_text("drawn\n")
    with stopped(moto.pid):
        waiting = subprocess.Popen(
            [PDFS, "umount", mounted], env=here.environ, stderr=subprocess.PIPE, text=True
        )
        deadline = time.monotonic() + LIMIT
        while mounted.is_mount():
            assert time.monotonic() < deadline
            time.sleep(0.1)
        waiting.send_signal(signal.SIGINT)
        _, said = waiting.communicate(timeout=LIMIT)
        assert waiting.returncode == 9
        assert "the daemon goes on" in said
    here.wait_released()
    assert "drawing.dxf" in here.pdfs("ls", f"{PROJECT}/planning")


def test_an_aborted_session_publishes_nothing_and_comes_back_without_the_bucket(
    bucket: Bucket, machine: MakeMachine, seed: int
) -> None:
    here = machine(bucket)
    drawn = random.Random(seed).randbytes(3 << 20)
    (here.mount("--create") / "big.dwg").write_bytes(drawn)
    here.pdfs("umount", PROJECT)
    mounted = here.mount()
    (mounted / "drawing.dxf").write_text("drawn\n")
    with (mounted / "big.dwg").open("r+b") as file:
        file.seek(2 << 20)
        file.write(b"a few bytes")
    assert here.run("abort", mounted).code == 2
    assert mounted.is_mount()
    here.pdfs("abort", mounted, "--yes")
    assert not mounted.is_mount()
    assert "is not locked" in here.pdfs("lock", "show", PROJECT)
    assert "drawing" not in here.pdfs("ls", f"{PROJECT}/planning")
    here.pdfs("recover", "undo")
    assert bucket.directory is not None
    away = bucket.directory.rename(bucket.directory.with_name("away"))
    here.pdfs("recover", "rescue", PROJECT, here.home / "rescued")
    rescued = (here.home / "rescued" / "big.dwg").read_bytes()
    assert rescued == drawn[: 2 << 20] + b"a few bytes" + drawn[(2 << 20) + 11 :]
    away.rename(bucket.directory)
    here.pdfs("recover", "resume", PROJECT)
    assert "drawing" in here.pdfs("ls", f"{PROJECT}/planning")


def test_a_stage_is_published_while_programs_go_on(
    bucket: Bucket, machine: MakeMachine, tmp_path: Path
) -> None:
    """One appends to a log all the time: each publish has a beginning of it, with all before."""
    here, there = machine(bucket), machine(bucket, name="ws8", user="bert")
    mounted = here.mount("--create")
    (mounted / "drawing.dxf").write_text("drawn\n")
    assert bucket.directory is not None
    plain = bucket.directory / PROJECT / "planning" / "log"
    noted = tmp_path / "acknowledged"
    noted.touch()
    loop = "n=0; while :; do n=$((n+1)); echo line $n >> log; echo $n > $0; done"
    with subprocess.Popen(["sh", "-c", loop, noted], cwd=mounted) as writing:
        published: list[int] = []
        while len(published) < 3:
            before = noted.read_text().strip()
            said = here.pdfs("publish", mounted)
            assert "it stays mounted" in said
            found = there.pdfs("ls", f"{PROJECT}/planning")
            assert "drawing.dxf" in found
            lines = plain.read_text().splitlines()
            assert lines == [f"line {n}" for n in range(1, len(lines) + 1)]
            assert len(lines) >= int(before or 0)
            published.append(len(lines))
        writing.kill()
    assert published == sorted(set(published))
    all_lines = (mounted / "log").read_text()
    here.pdfs("umount", mounted)
    assert plain.read_text() == all_lines


def test_a_mount_whose_directory_was_renamed_is_told_and_a_signal_ends_it_all_the_same(
    bucket: Bucket, machine: MakeMachine
) -> None:
    here = machine(bucket)
    above = here.home / "above"
    (above / "mnt").mkdir(parents=True)
    project = "Renamed_1"  # of which no other test has a mount
    here.pdfs("mount", project, above / "mnt", "--create")
    moved = above.rename(here.home / "moved") / "mnt"
    (moved / "drawing.dxf").write_text("drawn\n")
    refused = here.run("umount", project)
    assert refused.code == 7
    assert f"but at {moved}: a directory was renamed" in refused.err
    (session,) = here.sessions()
    os.kill(session["pid"], signal.SIGTERM)
    deadline = time.monotonic() + LIMIT
    while here.sessions():
        assert time.monotonic() < deadline, "the session does not end"
    assert not moved.is_mount()
    assert "drawing.dxf" in here.pdfs("ls", f"{project}/planning")
