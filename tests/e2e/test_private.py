"""What PDFS keeps on this machine is for its user alone, and no secret is in it (H2)."""

import os
import random
import resource
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.e2e.conftest import MakeMachine
from tests.e2e.machines import PROJECT, Ended, Machine, directory_bucket, server_bucket
from tests.store.servers import Server

PLACES = ("state", "cache", "runtime")


@pytest.fixture
def open_handed() -> Iterator[None]:
    """What is made keeps every bit that it asks for, and a crash leaves a core."""
    umask, cores = os.umask(0), resource.getrlimit(resource.RLIMIT_CORE)
    assert cores[1] != 0, "this machine has forbidden cores: nothing would be shown"
    resource.setrlimit(resource.RLIMIT_CORE, (cores[1], cores[1]))
    yield
    os.umask(umask)
    resource.setrlimit(resource.RLIMIT_CORE, cores)


def left_open(here: Machine) -> list[str]:
    """What others could look at or into, of all that PDFS made below this user's directories."""
    made = [path for name in PLACES for path in (here.home / name / "pdfs").rglob("*")]
    made += [here.home / name / "pdfs" for name in PLACES]
    assert len(made) > 10, "nothing was made"
    modes = {path: path.lstat().st_mode for path in made}
    return [
        f"{stat.S_IMODE(mode):o} {path}"
        for path, mode in modes.items()
        if mode & 0o077 and not stat.S_ISLNK(mode)
    ]


def holding(here: Machine, secrets: list[str]) -> list[Path]:
    """Files of PDFS on this machine in which one of these stands."""
    files = [p for name in PLACES for p in (here.home / name).rglob("*") if p.is_file()]
    assert len(files) > 3, "nothing was made"
    return [path for path in files if any(word.encode() in path.read_bytes() for word in secrets)]


def processes_of(here: Machine) -> dict[int, str]:
    """Command lines of the daemon and of every process below it."""
    (session,) = here.sessions()
    found = {int(session["pid"])}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and parent_of(entry) in found:
            found.add(int(entry.name))
    return {pid: Path(f"/proc/{pid}/cmdline").read_text() for pid in found}


def parent_of(process: Path) -> int:
    try:
        return int((process / "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


@pytest.mark.figure(name="H2")
@pytest.mark.usefixtures("open_handed")
def test_nothing_here_is_for_others_and_no_secret_is_in_it(
    moto: Server, machine: MakeMachine, seed: int
) -> None:
    rng = random.Random(seed)
    secrets = [f"{rng.getrandbits(160):x}" for _ in range(3)]
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
    bucket = server_bucket(moto, secrets[0][:8])
    bucket = replace(bucket, environ={**bucket.environ, **dict(zip(names, secrets, strict=True))})
    here = machine(bucket)
    said: list[Ended] = []

    def run(*words: str | Path, code: int = 0) -> None:
        said.append(here.run(*words))
        assert said[-1].code == code, said[-1]

    run("mount", PROJECT, here.mountpoint, "--create")
    (here.mountpoint / "drawing.dxf").write_text("drawn\n")
    run("status", "--json")
    assert left_open(here) == []
    for pid, command in processes_of(here).items():
        assert "pdfs.mount" in command
        assert not any(word in command for word in secrets)
        assert resource.prlimit(pid, resource.RLIMIT_CORE) == (0, 0)
    here.kill()
    run("status")
    run("recover", "rescue", PROJECT, here.home / "rescued")
    run("recover", "discard", PROJECT, "--yes")
    assert list((here.home / "state" / "pdfs" / "trash").iterdir())
    assert list((here.home / "runtime" / "pdfs").iterdir()) == [], "a socket that nobody has"
    assert left_open(here) == []
    assert holding(here, secrets) == []
    run("recover", "undo")
    run("mount", PROJECT, here.mountpoint)
    (here.mountpoint / "list.csv").write_text("1;2;3\n")
    run("umount", here.mountpoint)
    run("log", PROJECT)
    assert left_open(here) == []
    assert holding(here, secrets) == []
    for ended in said:
        assert not any(word in ended.out + ended.err for word in secrets), ended


def test_credentials_in_the_name_of_a_bucket_are_refused_and_kept_nowhere(
    machine: MakeMachine, tmp_path: Path
) -> None:
    url, secret = "s3://AKIA123:sla/sh/wJalrXUtnFEMI@bucket", "wJalrXUtnFEMI"
    here = machine(replace(directory_bucket(tmp_path / "none"), environ={"PDFS_BUCKET": url}))
    for command in (["mount", PROJECT, here.mountpoint, "--create"], ["ls"], ["lock", "show", "P"]):
        ended = here.run(*command)
        assert ended.code == 2, ended
        assert "hold no credentials" in ended.err
        assert secret not in ended.out + ended.err
    for path in here.home.rglob("*"):
        assert not path.is_file() or secret.encode() not in path.read_bytes(), path
