"""Native tools at work."""

import hashlib
import os
import shutil
import sqlite3
import sys
import tarfile
from pathlib import Path

import pytest

from tests.fuse.mounts import REPOSITORY, Mount, run

GIT = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "anna",
    "GIT_AUTHOR_EMAIL": "anna@example.org",
    "GIT_COMMITTER_NAME": "anna",
    "GIT_COMMITTER_EMAIL": "anna@example.org",
}


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """A tree of every kind of thing, outside of the mount."""
    root = tmp_path / "sources"
    shutil.copytree(
        REPOSITORY / "pdfs", root / "pdfs", ignore=shutil.ignore_patterns("__pycache__")
    )
    (root / "empty").mkdir()
    (root / "Anlage ü").mkdir(mode=0o750)
    (root / "Anlage ü/Plan.dxf").write_bytes(os.urandom(300_000))
    os.link(root / "Anlage ü/Plan.dxf", root / "linked.dxf")
    os.symlink("Anlage ü/Plan.dxf", root / "symbolic")
    os.symlink("nowhere", root / "dangling")
    os.mkfifo(root / "fifo", 0o620)
    os.chmod(root / "linked.dxf", 0o640)
    os.setxattr(root / "linked.dxf", "user.origin", b"\0plant\xff")
    os.utime(root / "linked.dxf", ns=(1, 1_234_567_890_123_456_789))
    os.utime(root / "Anlage ü", ns=(1, 1_000_000_000_987_654_321))
    return root


def picture(root: Path) -> dict[str, tuple[object, ...]]:
    """All that can be seen of a tree; hard links by the first of their names."""
    seen: dict[str, tuple[object, ...]] = {}
    first: dict[int, str] = {}
    for path in sorted(root.rglob("*")):
        found, name = path.lstat(), str(path.relative_to(root))
        kind = oct(found.st_mode)
        mtime = 0 if path.is_symlink() else found.st_mtime_ns
        content: object = ""
        xattrs: dict[str, bytes] = {}
        if path.is_symlink():
            content = os.readlink(path)
        elif path.is_file():
            content = hashlib.sha256(path.read_bytes()).hexdigest()
            xattrs = {key: os.getxattr(path, key) for key in os.listxattr(path)}
        link = name if path.is_dir() else first.setdefault(found.st_ino, name)
        seen[name] = (kind, mtime, content, xattrs, link)
    return seen


def test_cp_a_keeps_everything(place: Path, sources: Path) -> None:
    run("cp", "-a", sources, place / "copy", cwd=place)
    assert picture(place / "copy") == picture(sources)
    run("cp", "-a", place / "copy", place / "again", cwd=place)
    assert picture(place / "again") == picture(sources)


def test_mv_out_and_in_and_inside(place: Path, sources: Path, tmp_path: Path) -> None:
    expected = picture(sources)
    run("mv", sources, place / "in", cwd=place)
    run("mv", place / "in", place / "there", cwd=place)
    run("mv", place / "there", tmp_path / "out", cwd=place)
    assert picture(tmp_path / "out") == expected
    assert os.listdir(place) == []


def test_rm_r_leaves_nothing(place: Path, sources: Path, mount: Mount) -> None:
    run("cp", "-a", sources, place / "copy", cwd=place)
    run("rm", "-r", place / "copy", cwd=place)
    assert os.listdir(place) == []


def test_tar_in_and_out(place: Path, sources: Path, tmp_path: Path) -> None:
    run("tar", "--xattrs", "-cf", place / "all.tar", "-C", sources, ".", cwd=place)
    (place / "out").mkdir()
    run("tar", "--xattrs", "-xpf", place / "all.tar", "-C", place / "out", cwd=place)
    assert picture(place / "out") == picture(sources)
    with tarfile.open(place / "all.tar") as archive:
        assert "./linked.dxf" in archive.getnames()


def test_rsync_ax_in_and_again_finds_nothing_to_do(place: Path, sources: Path) -> None:
    # By itself rsync takes times of the same second for equal.
    command = ["rsync", "-aXH", "--modify-window=-1", "--itemize-changes", f"{sources}/"]
    assert run(*command, place / "r", cwd=place) != ""
    assert run(*command, place / "r", cwd=place) == ""
    assert picture(place / "r") == picture(sources)


def test_sed_i_keeps_the_mode(place: Path) -> None:
    path = place / "values.csv"
    path.write_text("pump;1\nvalve;2\n")
    path.chmod(0o640)
    run("sed", "-i", "s/pump/PUMP/", path, cwd=place)
    assert path.read_text() == "PUMP;1\nvalve;2\n"
    assert path.stat().st_mode & 0o7777 == 0o640
    assert os.listdir(place) == ["values.csv"]


def test_vim_edits_in_place(place: Path) -> None:
    path = place / "notes.txt"
    path.write_text("one\ntwo\n")
    run(
        "vim",
        "-es",
        "-u",
        "NONE",
        "-c",
        "set backup swapfile",
        "-c",
        "%s/two/three/",
        "-c",
        "wq",
        path,
        cwd=place,
        TERM="dumb",
    )
    assert path.read_text() == "one\nthree\n"


def test_git_from_init_to_fsck(place: Path, sources: Path) -> None:
    repository = place / "repo"
    shutil.copytree(sources / "pdfs", repository)
    run("git", "init", "-q", "-b", "main", cwd=repository, **GIT)
    run("git", "add", ".", cwd=repository, **GIT)
    run("git", "commit", "-qm", "first", cwd=repository, **GIT)
    (repository / "session.py").write_text("changed\n")
    run("git", "commit", "-qam", "second", cwd=repository, **GIT)
    run("git", "checkout", "-q", "HEAD~1", cwd=repository, **GIT)
    run("git", "gc", "-q", cwd=repository, **GIT)
    run("git", "fsck", "--strict", cwd=repository, **GIT)
    assert run("git", "status", "--porcelain", cwd=repository, **GIT) == ""
    assert picture(sources / "pdfs").keys() < picture(repository).keys()


@pytest.mark.parametrize("mode", ["delete", "wal", "truncate", "persist"])
def test_sqlite_with_two_connections(place: Path, mode: str) -> None:
    path = place / "plant.db"
    commands = f"pragma journal_mode={mode}; create table t (n integer, b blob);"
    assert run("sqlite3", path, commands, cwd=place).strip() == mode
    one, other = sqlite3.connect(path), sqlite3.connect(path)
    for number in range(50):
        with one:
            one.execute("insert into t values (?, ?)", (number, os.urandom(3_000)))
        assert other.execute("select count(*) from t").fetchone() == (number + 1,)
    with other:
        other.execute("update t set b = zeroblob(10000) where n % 3 = 0")
    one.execute("delete from t")
    one.rollback()
    one.close()
    other.close()
    checked = "pragma integrity_check; select count(*), sum(length(b)) from t;"
    assert run("sqlite3", path, checked, cwd=place).split() == [
        "ok",
        f"50|{17 * 10000 + 33 * 3000}",
    ]


def test_python_runs_and_compiles_there(place: Path) -> None:
    (place / "plant.py").write_text("pumps = [1, 2, 3]\n")
    code = "import plant, shutil; shutil.copy2('plant.py', 'copy.py'); print(sum(plant.pumps))"
    for _ in range(2):
        variables = {"PYTHONPATH": str(place), "PYTHONDONTWRITEBYTECODE": ""}
        assert run(sys.executable, "-c", code, cwd=place, **variables) == "6\n"
    assert (place / "__pycache__").is_dir()
    assert (place / "copy.py").stat().st_mtime_ns == (place / "plant.py").stat().st_mtime_ns


@pytest.mark.parametrize("backup", ["drawing.bak", "drawing.FCStd1"])
def test_cad_programs_save_by_renaming_twice(place: Path, backup: str) -> None:
    document = place / "drawing.dwg"
    for number in range(3):
        text = f"version {number}"
        (place / "drawing.tmp").write_text(text)
        if document.exists():
            (place / backup).unlink(missing_ok=True)
            document.rename(place / backup)
        (place / "drawing.tmp").rename(document)
        assert document.read_text() == text
    assert (place / backup).read_text() == "version 1"
