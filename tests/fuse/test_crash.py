"""kill -9 of the daemon: what was acknowledged is there when the journal is mounted again."""

import errno
import hashlib
import os
import random
import subprocess
import sys
import time
from pathlib import Path

from pdfs.core.ids import Path as StagePath
from tests.fuse.mounts import Mount, refused, run

COPIER = """
import hashlib, os, random, sys
diary = open(sys.argv[2], "w")
os.chdir(sys.argv[1])  # so no file goes beside the mount once it is gone
choice = random.Random(sys.argv[3])
for number in range(100_000):
    name, data = f"{number % 7}/{number:05}", choice.randbytes(choice.randrange(200_000))
    os.makedirs(str(number % 7), exist_ok=True)
    descriptor = os.open(f"{name}.part", os.O_CREAT | os.O_WRONLY)
    for start in range(0, len(data), 65_536):
        os.write(descriptor, data[start : start + 65_536])
    os.close(descriptor)
    os.rename(f"{name}.part", name)
    diary.write(f"{name} {hashlib.sha256(data).hexdigest()}\\n")
    diary.flush()
    os.fsync(diary.fileno())
"""


def test_no_file_whose_close_returned_is_lost(new_mount: Mount, tmp_path: Path, seed: int) -> None:
    for number in range(3):
        diary = tmp_path / f"diary{number}"
        choice = random.Random(f"{seed} {number}")
        target = new_mount.path / f"{number}"
        target.mkdir()
        with subprocess.Popen(
            [sys.executable, "-c", COPIER, str(target), str(diary), f"{seed} {number}"],
            stderr=subprocess.DEVNULL,
        ) as copier:
            while not diary.exists() or diary.read_bytes().count(b"\n") < 100:
                assert copier.poll() is None
                time.sleep(0.01)
            time.sleep(choice.random() / 2)
            new_mount.kill()
            assert copier.wait() != 0
        new_mount.start()
        check(diary, target)
    for number in range(3):
        check(tmp_path / f"diary{number}", new_mount.path / f"{number}")


def check(diary: Path, target: Path) -> None:
    """Every file that was closed before the kill is there as it was."""
    told = [
        line.split() for line in diary.read_text().splitlines(keepends=True) if line.endswith("\n")
    ]
    assert len(told) >= 100
    for name, digest in told:
        assert hashlib.sha256((target / name).read_bytes()).hexdigest() == digest, name
    expected = {name for name, _ in told}
    found = {str(path.relative_to(target)) for path in target.rglob("*") if path.is_file()}
    assert expected <= found
    assert len(found - expected) <= 1


def test_the_tree_after_a_kill_is_the_one_before(new_mount: Mount, tmp_path: Path) -> None:
    path = new_mount.path
    (path / "d").mkdir(mode=0o2750)
    (path / "d/f").write_bytes(b"content")
    os.setxattr(path / "d/f", "user.x", b"\0")
    os.link(path / "d/f", path / "linked")
    os.symlink("d/f", path / "s")
    os.mkfifo(path / "fifo")
    os.truncate(path / "d/f", 3)
    os.utime(path / "d/f", ns=(5, 7))
    os.chmod(path / "linked", 0o640)
    before = {one: os.lstat(one) for one in sorted(path.rglob("*"))}
    new_mount.kill()
    new_mount.start()
    after = {one: os.lstat(one) for one in sorted(path.rglob("*"))}
    for one, found in before.items():
        for name in ("mode", "ino", "nlink", "uid", "gid", "size", "mtime_ns", "ctime_ns"):
            assert getattr(after[one], f"st_{name}") == getattr(found, f"st_{name}"), (one, name)
    assert after.keys() == before.keys()
    assert (path / "d/f").read_bytes() == b"con"
    assert os.getxattr(path / "d/f", "user.x") == b"\0"


def test_what_msync_returned_for_survives(new_mount: Mount) -> None:
    code = (
        "import mmap, os, sys; d = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)\n"
        "os.ftruncate(d, 1 << 20); m = mmap.mmap(d, 1 << 20)\n"
        "m[500_000:500_005] = b'hello'; m.flush(); print('synced', flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(new_mount.path / "f")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"synced\n"
        new_mount.kill()
        writer.kill()
    new_mount.start()
    assert (new_mount.path / "f").read_bytes()[500_000:500_005] == b"hello"


def test_a_file_that_was_unlinked_while_open_does_not_come_back(new_mount: Mount) -> None:
    descriptor = os.open(new_mount.path / "f", os.O_CREAT | os.O_WRONLY)
    os.write(descriptor, b"x")
    os.unlink(new_mount.path / "f")
    new_mount.kill()
    with refused(errno.ENOTCONN):
        os.close(descriptor)
    assert len(new_mount.replayed().orphans) == 1
    new_mount.start()
    assert os.listdir(new_mount.path) == []
    new_mount.unmount()
    assert not new_mount.replayed().orphans


def test_unmounting_leaves_what_the_mount_showed(new_mount: Mount) -> None:
    run("sh", "-c", "mkdir -p a/b; echo x > a/b/f; mv a c; rm -r c/b", cwd=new_mount.path)
    new_mount.unmount()
    tree = new_mount.replayed()
    assert [path for path, _ in tree.walk()] == [StagePath("c")]
    assert len(tree.nodes) == 2


def test_a_busy_mount_is_not_unmounted_and_a_lazy_one_ends_with_its_last_file(
    new_mount: Mount,
) -> None:
    with (new_mount.path / "f").open("wb", buffering=0) as file:
        done = subprocess.run(
            ["fusermount3", "-u", new_mount.path], capture_output=True, check=False
        )
        assert b"busy" in done.stderr
        run("fusermount3", "-u", "-z", new_mount.path, cwd=Path("/"))
        file.write(b"after")
    new_mount.wait_end()
    ((path, node),) = new_mount.replayed().walk()
    assert (path, node.size) == ("f", 5)
