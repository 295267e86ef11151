"""Taking the mount away: a tool that is missing or refuses is told in words, nothing else fails."""

import os
from pathlib import Path

import pytest

from pdfs.errors import MountError
from pdfs.mount import detach as detach_module
from pdfs.mount.detach import detach, unmount
from tests.conftest import ExpectedWarnings

pytestmark = pytest.mark.real_clock


def tool(path: Path, name: str, *lines: str) -> None:
    program = path / name
    program.write_text("\n".join(("#!/bin/sh", *lines, "")))
    program.chmod(0o755)


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only place where programs are found; it is empty."""
    path = tmp_path / "bin"
    path.mkdir()
    monkeypatch.setenv("PATH", os.fspath(path))
    return path


def mounted(monkeypatch: pytest.MonkeyPatch, *, is_mounted: bool = True) -> None:
    monkeypatch.setattr(detach_module, "is_mounted", lambda mountpoint: is_mounted)


@pytest.mark.parametrize("call", [unmount, detach])
async def test_a_missing_fusermount_is_told_in_words(call: object, tools: Path) -> None:
    assert callable(call)
    tool(tools, "sync", "exit 0")
    with pytest.raises(MountError, match=r"fusermount3 can't be run: .*No such file"):
        await call("/mnt/plant", "0:61")


async def test_a_missing_sync_does_not_keep_a_mount(tools: Path, tmp_path: Path) -> None:
    tool(tools, "fusermount3", f"echo $* >{tmp_path}/asked")
    with pytest.raises(MountError, match="sync can't be run"):
        await detach("/mnt/plant", "0:61")
    assert (tmp_path / "asked").read_text() == "-u -z /mnt/plant\n"


@pytest.mark.parametrize("call", [unmount, detach])
async def test_a_refused_unmount_is_told_with_the_words_of_the_tool(
    call: object, tools: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert callable(call)
    tool(tools, "sync", "exit 0")
    tool(tools, "fusermount3", "echo 'target is busy' >&2", "exit 1")
    mounted(monkeypatch)
    with pytest.raises(MountError, match=r"/mnt/plant can't be .*: target is busy"):
        await call("/mnt/plant", "0:61")


@pytest.mark.parametrize("call", [unmount, detach])
async def test_a_refusal_counts_for_nothing_where_nothing_is_mounted(
    call: object, tools: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert callable(call)
    tool(tools, "sync", "exit 1")
    tool(tools, "fusermount3", "exit 1")
    mounted(monkeypatch, is_mounted=False)
    await call("/mnt/plant", "0:61")


@pytest.mark.parametrize(
    ("lines", "words"),
    [(("exit 1",), "sync ended with 1"), (("exec /bin/sleep 3600",), r"within 0\.1 s")],
    ids=["fails", "takes too long"],
)
async def test_mapped_pages_that_are_not_written_are_told_and_keep_no_mount(
    tools: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    expected_warnings: ExpectedWarnings,
    lines: tuple[str, ...],
    words: str,
) -> None:
    tool(tools, "sync", *lines)
    tool(tools, "fusermount3", f"echo $* >>{tmp_path}/asked")
    mounted(monkeypatch)
    monkeypatch.setattr(detach_module, "_SYNC", 0.1)
    with pytest.raises(MountError, match=f"not written all that programs have mapped.*{words}"):
        await detach_module.sync_mount("/mnt/plant")
    await unmount("/mnt/plant", "0:61")
    expected_warnings.take("not written all that programs have mapped")
    with pytest.raises(MountError, match=words):
        await detach("/mnt/plant", "0:61")
    assert (tmp_path / "asked").read_text() == "-u /mnt/plant\n-u -z /mnt/plant\n"
