"""tar unpacks an archive: what it has named the successor of is there whole."""

import random
import subprocess
import tarfile
from io import BytesIO
from pathlib import Path
from typing import IO

from tests.e2e.kills.diary import Diary, Told
from tests.fuse.test_tools import picture

MEMBERS = 150
ARCHIVE, SOURCE = "all.tar", "source"
Picture = dict[str, tuple[object, ...]]


class ToolFailed(Exception):
    """With what it said."""


class Archive:
    """Unpacked over and over, each time in a new directory; those before the last two go."""

    def __init__(self, outside: Path) -> None:
        self._source = outside / SOURCE
        make_archive(outside / ARCHIVE, random.Random(outside.name))
        self._source.mkdir()
        unpack = ["tar", "-xpf", str(outside / ARCHIVE), "-C", str(self._source)]
        subprocess.run(unpack, check=True)
        self._whole: Picture = picture(self._source)
        self._directories: dict[str, Picture] = {}

    def prepare(self, top: Path) -> None:
        """tar makes what it needs."""

    @staticmethod
    def work(top: Path, outside: Path, diary: Diary, name: str) -> None:
        """Unpack and remove for ever."""
        count = 0
        while True:
            count += 1
            target = top / f"{name} {count}"
            with diary.noted("mkdir", target.name):
                target.mkdir()
            with diary.noted("unpack", target.name):
                unpack(outside / ARCHIVE, target, diary)
            for old in sorted(top.iterdir(), key=lambda path: path.stat().st_ctime_ns)[:-2]:
                with diary.noted("remove", old.name):
                    run_tool("rm", "-r", str(old))

    def check(self, top: Path, told: Told) -> None:
        """Every file in every directory is one of the archive's, whole unless tar was at it."""
        members: dict[str, list[str]] = {}
        for each in told.acknowledged:
            match each.name, each.arguments:
                case "mkdir", (target,):
                    members[target] = []
                case "member", (target, member):
                    members[target].append(member)
                case "unpack", (target,):
                    members.pop(target)
                    self._directories[target] = self._whole
                case _, (target,):  # removed
                    del self._directories[target]
                case _:
                    raise AssertionError(each)
        begun = {each.name: each.arguments for each in told.in_flight}
        removing = begun.get("remove", ("",))[0]
        making = begun.get("mkdir", ("",))[0]
        found = {path.name: picture(path) for path in top.iterdir()}
        expected = {*self._directories, *members}
        assert expected - {removing} <= found.keys() <= expected | {making}
        for name, shown in found.items():
            if name == removing:
                check_subset(shown, self._directories[name])
            elif name in members:
                check_part(shown, self._whole, members[name], self._source, top / name)
            elif name in self._directories:
                check_same(shown, self._directories[name], name)
            else:
                assert not shown
        self._directories = found


def make_archive(path: Path, choice: random.Random) -> None:
    """Files, folders, symlinks and hard links, with modes and times of their own."""
    with tarfile.open(path, "w") as archive:
        names: list[str] = []
        for number in range(MEMBERS):
            folder = f"area-{number // 25}"
            if folder not in names:
                names.append(folder)
                archive.addfile(_member(folder, tarfile.DIRTYPE, 0o750, choice))
            name, kind = f"{folder}/{number:03}.jt", choice.random()
            size = choice.choice([0, 100, 5_000, choice.randrange(100_000)])
            size = choice.randrange(3 << 20) if number % 70 == 69 else size
            files = [each for each in names if each.endswith(".jt")]
            if kind < 0.9 or not files:
                member = _member(
                    name, tarfile.REGTYPE, choice.choice([0o644, 0o600, 0o755]), choice
                )
                member.size = size
                archive.addfile(member, BytesIO(choice.randbytes(size)))
                names.append(name)
            else:
                kinds = (tarfile.SYMTYPE, tarfile.LNKTYPE)
                member = _member(f"{name}.also", choice.choice(kinds), 0o777, choice)
                target = choice.choice(files)
                member.linkname = target if member.islnk() else Path(target).name
                archive.addfile(member)


def _member(name: str, kind: bytes, mode: int, choice: random.Random) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.mode, member.mtime = kind, mode, choice.randrange(1, 1 << 30)
    return member


def run_tool(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ToolFailed(done.stderr)


def unpack(archive: Path, target: Path, diary: Diary) -> None:
    """tar names each member before it begins with it: the one before is done by then."""
    command = ["tar", "-xvpf", str(archive), "-C", str(target)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as tar:
        assert tar.stdout is not None
        last = _note_members(tar.stdout, target.name, diary)
    if tar.returncode:
        raise ToolFailed
    if last:
        diary.end(last)


def _note_members(names: IO[bytes], target: str, diary: Diary) -> int:
    """The number of the last one, which is not known to be done."""
    last = 0
    for line in names:
        if line.startswith(b"tar: "):
            raise ToolFailed(line.decode())
        if last:
            diary.end(last)
        last = diary.begin("member", target, line.decode().strip())
    return last


def check_part(shown: Picture, whole: Picture, done: list[str], source: Path, top: Path) -> None:
    """The members that are done are whole; of the next one there is no more than a beginning."""
    for name in done:
        name = name.rstrip("/")
        if not (source / name).is_dir() or (source / name).is_symlink():
            assert shown.get(name) == whole[name], name
    rest = shown.keys() - {name.rstrip("/") for name in done}
    for name in rest:
        if (source / name).is_symlink():
            assert (top / name).readlink() == (source / name).readlink(), name
        elif (top / name).is_dir():
            assert (source / name).is_dir()
        else:
            whole_bytes, found = (source / name).read_bytes(), (top / name).read_bytes()
            assert whole_bytes.startswith(found), name
    files = [name for name in rest if not (top / name).is_dir()]
    assert len(files) <= 1, f"tar had not begun with these: {files}"


def check_same(shown: Picture, expected: Picture, top: str) -> None:
    """Everything is as it was unpacked."""
    for name in sorted({*shown, *expected}):
        seen, wanted = shown.get(name), expected.get(name)
        assert seen == wanted, f"{top}/{name}: {seen}, not {wanted}"


def check_subset(shown: Picture, whole: Picture) -> None:
    """What rm has left of a directory is as it was."""
    for name, (mode, mtime, content, xattrs, _) in shown.items():
        kind, when, *rest, _link = whole[name]
        assert (mode, content, xattrs) == (kind, *rest), name
        assert mtime == when or content == "", name
