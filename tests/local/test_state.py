"""The state directory: who holds which session, and what survives."""

import contextlib
import errno
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePath
from typing import cast

import pytest

from pdfs.config import cache_path, runtime_path, state_path
from pdfs.core.ids import SessionId
from pdfs.disk import FILE_MODE, OsDisk, replace_file
from pdfs.errors import (
    DamageFound,
    DiskError,
    DiskFull,
    LockError,
    SessionError,
    SessionNotFound,
    UsageError,
)
from pdfs.local.journal import Journal
from pdfs.local.session_directory import SessionDirectory
from pdfs.local.snapshot import SCHEMA, encode_snapshot_head
from pdfs.local.state import StateDirectory
from pdfs.local.trash_days import DAY
from tests.conftest import ExpectedWarnings
from tests.local.crashing_disk import CrashingDisk, PowerCuts, pending
from tests.local.faulty_disk import Fault, FaultyDisk
from tests.local.journals import HEADER, SESSION

OTHER = SessionId("b" * 32)


@pytest.fixture
def disk() -> FaultyDisk:
    return FaultyDisk()


@pytest.fixture
def state(disk: FaultyDisk, tmp_path: Path) -> Iterator[StateDirectory]:
    with StateDirectory(disk, PurePath(tmp_path / "pdfs")) as state:
        yield state


@pytest.fixture
def session(state: StateDirectory) -> Iterator[SessionDirectory]:
    with state.create_session(SESSION) as session:
        yield session


def session_path(tmp_path: Path) -> Path:
    return tmp_path / "pdfs" / "sessions" / SESSION


def snapshot_of(session: SessionDirectory) -> bytes:
    content = session.read_snapshot()
    assert content is not None
    return bytes(content)


def discard(state: StateDirectory, session: SessionId) -> None:
    """As a command does with a session that no process has."""
    with state.open_session(session) as directory:
        state.discard(directory)


def held(state: StateDirectory) -> dict[str, bool]:
    return {listed.session: listed.is_held for listed in state.sessions()}


# Paths


def test_paths_come_from_the_environment() -> None:
    environment = {
        "HOME": "/home/anna",
        "XDG_STATE_HOME": "/state",
        "XDG_CACHE_HOME": "/cache",
        "XDG_RUNTIME_DIR": "/run/user/1000",
    }
    assert str(state_path(environment)) == "/state/pdfs"
    assert str(cache_path(environment)) == "/cache/pdfs"
    assert str(runtime_path(environment)) == "/run/user/1000/pdfs"


@pytest.mark.parametrize("value", [None, "", "relative/path"])
def test_variables_that_are_unset_empty_or_relative_mean_the_default(value: str | None) -> None:
    names = ("XDG_STATE_HOME", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR")
    environment = {} if value is None else dict.fromkeys(names, value)
    environment["HOME"] = "/home/anna"
    assert str(state_path(environment)) == "/home/anna/.local/state/pdfs"
    assert str(cache_path(environment)) == "/home/anna/.cache/pdfs"
    assert str(runtime_path(environment)) == "/home/anna/.local/state/pdfs/run"


def test_without_home_the_user_database_says_where() -> None:
    assert state_path({}).is_absolute()


# The directory itself


@pytest.mark.figure(name="H2")
def test_nothing_is_open_to_others_under_umask_zero(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        with (
            StateDirectory(OsDisk(), PurePath(tmp_path / "home" / "pdfs")) as state,
            state.create_session(SESSION) as session,
        ):
            session.describe({"stage": "planning"})
            session.write_snapshot(b"tree")
            Journal.create(OsDisk(), session.descriptor, HEADER).close()
    finally:
        os.umask(old)
    modes = {one.name: one.stat().st_mode & 0o777 for one in (tmp_path / "home").rglob("*")}
    assert len(modes) == 10
    assert all(mode & 0o77 == 0 for mode in modes.values()), modes


@pytest.mark.parametrize("name", [".", "sessions", "trash", "logs"])
def test_a_directory_that_is_open_to_others_is_closed(tmp_path: Path, name: str) -> None:
    target = tmp_path / "pdfs" / name
    target.mkdir(parents=True)
    target.chmod(0o755)
    StateDirectory(OsDisk(), PurePath(tmp_path / "pdfs")).close()
    assert target.stat().st_mode & 0o777 == 0o700


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a directory of somebody else")
def test_a_directory_of_another_user_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pdfs").mkdir()
    os.chown(tmp_path / "pdfs", 12345, -1)
    with pytest.raises(DiskError, match="belongs to user 12345"):
        StateDirectory(OsDisk(), PurePath(tmp_path / "pdfs"))


@pytest.mark.parametrize("name", ["sessions", "trash", "logs"])
def test_a_symlink_below_the_state_directory_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "pdfs").mkdir()
    (tmp_path / "elsewhere").mkdir(mode=0o755)
    (tmp_path / "pdfs" / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DiskError, match="symlink"):
        StateDirectory(OsDisk(), PurePath(tmp_path / "pdfs"))
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert (tmp_path / "elsewhere").stat().st_mode & 0o777 == 0o755


def test_a_symlink_on_the_way_to_the_state_directory_is_followed(tmp_path: Path) -> None:
    (tmp_path / "big-disk").mkdir()
    (tmp_path / "home").symlink_to("big-disk")
    with StateDirectory(OsDisk(), PurePath(tmp_path / "home" / "pdfs")) as state:
        state.create_session(SESSION).close()
    assert (tmp_path / "big-disk" / "pdfs" / "sessions" / SESSION).is_dir()


def test_a_session_that_is_a_symlink_is_refused_and_listed_as_such(
    state: StateDirectory, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "pdfs" / "sessions" / SESSION).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DiskError, match="symlink"):
        state.open_session(SESSION)
    (listed,) = state.sessions()
    assert "symlink" in listed.problem
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.parametrize("name", ["session.lock", "session.json", "snapshot"])
def test_a_file_of_a_session_that_is_a_symlink_is_never_followed(
    state: StateDirectory, tmp_path: Path, name: str
) -> None:
    state.create_session(SESSION).close()
    file = tmp_path / "pdfs" / "sessions" / SESSION / name
    file.unlink(missing_ok=True)
    (tmp_path / "target").write_bytes(b"untouched")
    file.symlink_to(tmp_path / "target")
    if name == "session.lock":
        with pytest.raises(DiskError):
            state.open_session(SESSION)
    else:
        with state.open_session(SESSION) as session:
            with pytest.raises(DiskError):
                session.description() if name == "session.json" else session.read_snapshot()
            session.describe({})
            session.write_snapshot(b"new")
    state.sessions()
    assert (tmp_path / "target").read_bytes() == b"untouched"


# Holding a session


class ReadOnlyDisk(OsDisk):
    """As a file system that errors have turned read only."""

    def open(self, directory: int, name: str, flags: int, mode: int = FILE_MODE) -> int:
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), name)
        return super().open(directory, name, flags, mode)


@pytest.mark.parametrize("name", ["session.json", "snapshot", "session.lock"])
def test_a_fifo_in_place_of_a_file_of_a_session_holds_nobody_up(
    state: StateDirectory, session: SessionDirectory, name: str
) -> None:
    session.describe({"stage": "planning"})
    session.close()
    Path(session.path, name).unlink(missing_ok=True)
    os.mkfifo(Path(session.path, name))
    (listed,) = state.sessions()
    assert bool(listed.problem) == (name == "session.json")
    outcome = pytest.raises(DiskError, match=r"can't read .*/snapshot")
    with (
        state.open_session(SESSION) as again,
        outcome if name == "snapshot" else contextlib.nullcontext(),
    ):
        again.read_snapshot()


def test_a_session_on_a_disk_that_has_turned_read_only_is_held_and_read(
    session: SessionDirectory, tmp_path: Path
) -> None:
    session.describe({"stage": "planning"})
    session.write_snapshot(b"tree")
    with StateDirectory(ReadOnlyDisk(), PurePath(tmp_path / "pdfs")) as state:
        assert held(state) == {SESSION: True}
        with pytest.raises(LockError, match="running"):
            state.open_session(SESSION)
        session.close()
        with state.open_session(SESSION) as opened:
            assert snapshot_of(opened) == b"tree"
            assert held(state) == {SESSION: True}
            with pytest.raises(DiskError, match="Read-only"):
                opened.describe({})
        assert held(state) == {SESSION: False}


def test_a_session_without_its_description_is_known_by_its_journal(
    state: StateDirectory, session: SessionDirectory
) -> None:
    assert state.sessions()[0].description is None
    header = replace(HEADER, base={"bucket": "s3://plants", "endpoint": "https://r2"})
    Journal.create(OsDisk(), session.descriptor, header).abandon()
    (listed,) = state.sessions()
    assert listed.description is not None
    told = [listed.description.text(name) for name in ("project", "stage", "user", "machine")]
    assert told == [HEADER.project, HEADER.stage, HEADER.user, HEADER.machine]
    assert listed.description.text("endpoint") == "https://r2"
    assert listed.problem == ""
    session.describe({"project": "as it was described"})
    (listed,) = state.sessions()
    assert listed.description is not None
    assert listed.description.text("project") == "as it was described"


def test_a_session_is_held_until_it_is_closed(state: StateDirectory) -> None:
    session = state.create_session(SESSION)
    session.describe({})
    assert held(state) == {SESSION: True}
    with pytest.raises(LockError, match="running"):
        state.open_session(SESSION)
    session.close()
    session.close()
    assert held(state) == {SESSION: False}
    with state.open_session(SESSION):
        assert held(state) == {SESSION: True}


@pytest.mark.figure(name="H4")
def test_a_session_of_a_killed_process_is_free(state: StateDirectory, tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import PurePath; from pdfs.disk import OsDisk;"
        "from pdfs.local.state import StateDirectory;"
        "state = StateDirectory(OsDisk(), PurePath(sys.argv[1]));"
        "session = state.create_session(sys.argv[2]); session.describe({});"
        "print('held', flush=True); sys.stdin.read()"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "pdfs"), SESSION],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"held\n"
        assert held(state) == {SESSION: True}
        with pytest.raises(LockError):
            state.open_session(SESSION)
        child.kill()
        child.wait()
    assert held(state) == {SESSION: False}
    state.open_session(SESSION).close()


def test_a_session_is_made_once(state: StateDirectory) -> None:
    state.create_session(SESSION).close()
    with pytest.raises(SessionError, match="already"):
        state.create_session(SESSION)


@pytest.mark.parametrize("name", ["", "..", "a/b", "A" * 32, "a" * 31, "a" * 33, "٣" * 32])
def test_what_is_no_session_id_never_becomes_a_path(state: StateDirectory, name: str) -> None:
    for call in (state.create_session, state.open_session, partial(discard, state), state.undo):
        with pytest.raises(UsageError, match="not a session id"):
            call(SessionId(name))


def test_what_is_not_there_is_not_found(state: StateDirectory) -> None:
    for call in (state.open_session, partial(discard, state), state.undo):
        with pytest.raises(SessionNotFound):
            call(OTHER)


def test_looking_at_sessions_makes_no_file_and_takes_no_lock(
    state: StateDirectory, tmp_path: Path
) -> None:
    path = tmp_path / "pdfs" / "sessions" / SESSION
    path.mkdir(mode=0o700)
    (path / "session.json").touch(mode=0o600)
    (tmp_path / "pdfs" / "sessions" / "litter").mkdir()
    assert held(state) == {SESSION: False}
    assert [each.name for each in path.iterdir()] == ["session.json"]
    state.open_session(SESSION).close()


@pytest.mark.parametrize("number", range(1, 7))
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_session_that_could_not_be_made_leaves_nothing(
    state: StateDirectory, disk: FaultyDisk, tmp_path: Path, number: int, code: int
) -> None:
    before = set(os.listdir("/proc/self/fd"))
    disk.fault = Fault(at=number, error=code)
    with pytest.raises(DiskFull if code == errno.ENOSPC else DiskError):
        state.create_session(SESSION)
    assert disk.failed == 1
    assert list((tmp_path / "pdfs" / "sessions").iterdir()) == []
    assert set(os.listdir("/proc/self/fd")) == before


def test_a_new_session_survives_power_loss(tmp_path: Path) -> None:
    disk = CrashingDisk(tmp_path)
    with StateDirectory(disk, PurePath(tmp_path / "pdfs")) as state:
        state.create_session(SESSION).close()
    assert pending(disk.log) == []


# Description and snapshot


def test_the_description_is_listed_with_the_session(
    state: StateDirectory, session: SessionDirectory
) -> None:
    assert session.description() is None
    session.describe({"stage": "planning"})
    session.describe({"stage": "planning", "mountpoint": "/mnt/plant"})
    (listed,) = state.sessions()
    assert listed.description is not None
    assert listed.description.text("mountpoint") == "/mnt/plant"
    assert listed.problem == ""


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"schema":2}', b"\xff", b'{"a":' * 9999])
def test_a_description_that_is_none_is_told_and_hides_no_session(
    state: StateDirectory, session: SessionDirectory, content: bytes
) -> None:
    session.describe({})
    (Path(session.path) / "session.json").write_bytes(content)
    with pytest.raises(DamageFound, match=r"session\.json"):
        session.description()
    (listed,) = state.sessions()
    assert (listed.is_held, listed.description) == (True, None)
    assert "session.json" in listed.problem


def test_a_snapshot_comes_back_as_it_was_written(session: SessionDirectory) -> None:
    assert session.read_snapshot() is None
    for content in (b"", b"tree", os.urandom(3 << 20)):
        session.write_snapshot(content)
        assert snapshot_of(session) == content


def test_every_change_of_a_snapshot_is_found(session: SessionDirectory) -> None:
    session.write_snapshot(b"the tree")
    file = Path(session.path) / "snapshot"
    raw = file.read_bytes()
    changed = [raw[:size] for size in range(len(raw))] + [raw + b"\0", raw + raw, b"\0" * len(raw)]
    for bit in range(len(raw) * 8):
        flipped = bytearray(raw)
        flipped[bit // 8] ^= 1 << bit % 8
        changed.append(bytes(flipped))
    for content in changed:
        file.write_bytes(content)
        with pytest.raises(DamageFound, match=r"snapshot.*damaged"):
            session.read_snapshot()


def test_a_snapshot_of_another_session_is_damage(session: SessionDirectory) -> None:
    content = encode_snapshot_head(OTHER, b"tree") + b"tree"
    (Path(session.path) / "snapshot").write_bytes(content)
    with pytest.raises(DamageFound, match=f"belongs to session {OTHER}"):
        session.read_snapshot()


def test_a_snapshot_of_a_newer_version_is_refused_in_words(
    session: SessionDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pdfs.local.snapshot.SCHEMA", SCHEMA + 1)
    session.write_snapshot(b"tree")
    monkeypatch.undo()
    with pytest.raises(UsageError, match=rf"schema {SCHEMA + 1}.*newer"):
        session.read_snapshot()


@pytest.mark.parametrize("number", range(1, 7))
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_snapshot_that_could_not_be_written_leaves_the_old_one(
    session: SessionDirectory, disk: FaultyDisk, number: int, code: int
) -> None:
    session.write_snapshot(b"old")
    disk.fault = Fault(at=number, error=code, takes=50)
    with pytest.raises(DiskFull if code == errno.ENOSPC else DiskError):
        session.write_snapshot(b"new")
    disk.fault = None
    assert snapshot_of(session) == (b"new" if number == 6 else b"old")


def test_after_any_power_cut_the_snapshot_is_the_old_or_the_new_one(
    tmp_path: Path, seed: int
) -> None:
    disk = CrashingDisk(tmp_path)
    trees = [f"tree {number} ".encode() * 400 for number in range(4)]
    heads = [encode_snapshot_head(SESSION, tree) for tree in trees]
    written = [head + tree for head, tree in zip(heads, trees, strict=True)]
    done = []
    with (
        StateDirectory(disk, PurePath(tmp_path / "pdfs")) as state,
        state.create_session(SESSION) as session,
    ):
        for tree in trees:
            session.write_snapshot(tree)
            done.append(len(disk.log))
    for cut, found in PowerCuts(disk, seed).states(per_cut=40):
        if cut >= done[0]:
            newest = sum(cut >= when for when in done) - 1
            snapshot = found[f"pdfs/sessions/{SESSION}/snapshot"]
            assert snapshot in written[newest : newest + 2]


# Trash


def test_a_discarded_session_comes_back_as_it_was(state: StateDirectory, tmp_path: Path) -> None:
    with state.create_session(SESSION) as session:
        session.describe({"stage": "planning"})
        session.write_snapshot(b"tree")
    discard(state, SESSION)
    assert state.sessions() == []
    (trashed,) = state.trashed()
    assert (trashed.session, trashed.is_held) == (SESSION, False)
    assert trashed.changed > 0
    with pytest.raises(SessionNotFound):
        state.open_session(SESSION)
    state.undo(SESSION)
    assert state.trashed() == []
    with state.open_session(SESSION) as session:
        assert snapshot_of(session) == b"tree"


def test_a_session_that_is_held_is_not_discarded(
    state: StateDirectory, session: SessionDirectory
) -> None:
    with pytest.raises(LockError):
        discard(state, SESSION)
    assert held(state) == {SESSION: True}


@pytest.mark.parametrize("move", [discard, StateDirectory.undo], ids=["discard", "undo"])
def test_nothing_is_moved_over_something(
    state: StateDirectory, tmp_path: Path, move: Callable[[StateDirectory, SessionId], None]
) -> None:
    for parent in ("sessions", "trash"):
        (tmp_path / "pdfs" / parent / SESSION).mkdir(mode=0o700)
        (tmp_path / "pdfs" / parent / SESSION / "journal-1.wal").write_bytes(parent.encode())
    with pytest.raises(SessionError, match="there are two of session"):
        move(state, SESSION)
    for parent in ("sessions", "trash"):
        file = tmp_path / "pdfs" / parent / SESSION / "journal-1.wal"
        assert file.read_bytes() == parent.encode()


def test_at_any_power_cut_a_discarded_session_is_here_or_there(tmp_path: Path, seed: int) -> None:
    disk = CrashingDisk(tmp_path)
    with StateDirectory(disk, PurePath(tmp_path / "pdfs")) as state:
        with state.create_session(SESSION) as session:
            session.write_snapshot(b"tree")
        made = len(disk.log)
        discard(state, SESSION)
    assert pending(disk.log) == []
    for cut, found in PowerCuts(disk, seed).states():
        if cut >= made:
            places = {name for name in found if name.endswith("/snapshot")}
            assert places in (
                {f"pdfs/sessions/{SESSION}/snapshot"},
                {f"pdfs/trash/{SESSION}/snapshot"},
            )


def test_at_any_power_cut_a_session_in_the_trash_is_whole_or_not_there(
    tmp_path: Path, seed: int
) -> None:
    """Else it could be brought back without a part of what it had."""
    disk = CrashingDisk(tmp_path)
    with StateDirectory(disk, PurePath(tmp_path / "pdfs")) as state:
        with state.create_session(SESSION) as session:
            session.describe({"stage": "planning"})
            session.write_snapshot(b"tree")
        discard(state, SESSION)
        made = len(disk.log)
        assert state.empty_trash(float("inf"), days=0, most=1) == [SESSION]
    whole = {"session.json", "session.lock", "snapshot"}
    for _, found in PowerCuts(disk, seed).states(since=made):
        there = {name.rpartition("/")[2] for name in found if f"trash/{SESSION}/" in name}
        assert there in (set(), whole)


@pytest.mark.parametrize("has_lock", [False, True])
def test_a_directory_that_never_became_a_session_is_none_and_goes_when_it_is_old(
    tmp_path: Path, has_lock: bool
) -> None:
    """Who made it died before the session was described."""
    with StateDirectory(OsDisk(), PurePath(tmp_path / "pdfs")) as state:
        place = tmp_path / "pdfs/sessions" / SESSION
        place.mkdir(mode=0o700)
        if has_lock:
            (place / "session.lock").touch(mode=0o600)
        assert state.sessions() == []
        state.remove_unbegun(place.stat().st_mtime - 60)
        assert place.exists(), "it may be about to become one"
        with state.create_session(OTHER) as directory:
            state.remove_unbegun(place.stat().st_mtime + 60)
            assert not place.exists()
            assert [each.session for each in state.sessions()] == [OTHER], "a process has it"
            directory.describe({"project": "Plant"})
        assert [each.session for each in state.sessions()] == [OTHER]


def test_at_any_power_cut_a_damaged_segment_is_here_or_kept_and_in_the_end_it_is_kept(
    tmp_path: Path, seed: int
) -> None:
    disk = CrashingDisk(tmp_path)
    place = f"pdfs/sessions/{SESSION}"
    with (
        StateDirectory(disk, PurePath(tmp_path / "pdfs")) as state,
        state.create_session(SESSION) as session,
    ):
        replace_file(disk, session.descriptor, "journal-1.wal", b"bytes")
        made = len(disk.log)
        session.note_damage()
        session.let_go_segments(2, frozenset())
        end = len(disk.log)
    for cut, found in PowerCuts(disk, seed).states(since=made):
        kept = [name for name in found if name.endswith("/journal-1.wal")]
        where = {f"{place}/damaged/journal-1.wal"}
        assert set(kept) == where or (cut < end and kept == [f"{place}/journal-1.wal"])


def test_the_trash_is_emptied_of_what_is_old_and_never_of_what_is_younger(
    state: StateDirectory, tmp_path: Path
) -> None:
    for session in (SESSION, OTHER):
        state.create_session(session).close()
        discard(state, session)
    trash = tmp_path / "pdfs" / "trash"
    ages = {listed.session: listed.changed for listed in state.trashed()}
    assert state.empty_trash(min(ages.values()), days=0, most=10) == []
    assert len(list(trash.iterdir())) == 2
    assert state.empty_trash(max(ages.values()) + 1, days=0, most=1) == [
        min(ages, key=lambda s: ages[s])
    ]
    assert len(list(trash.iterdir())) == 1
    assert len(state.empty_trash(max(ages.values()) + 1, days=0, most=1)) == 1
    assert list(trash.iterdir()) == []


def test_what_can_not_be_looked_at_in_the_trash_is_not_taken_for_old(
    state: StateDirectory, disk: FaultyDisk
) -> None:
    state.create_session(SESSION).close()
    discard(state, SESSION)
    disk.fault = Fault(at=2, error=errno.EIO, calls=frozenset({"open_directory"}))
    assert state.empty_trash(1e12, days=0, most=10) == []
    assert disk.failed
    assert [each.session for each in state.trashed()] == [SESSION]


def test_the_age_in_the_trash_counts_from_the_discard(
    state: StateDirectory, tmp_path: Path
) -> None:
    state.create_session(SESSION).close()
    os.utime(tmp_path / "pdfs" / "sessions" / SESSION, ns=(0, 0))
    discard(state, SESSION)
    (found,) = state.trashed()
    assert os.stat(tmp_path / "pdfs" / "trash" / SESSION).st_mtime > 1e9
    assert state.empty_trash(found.changed, days=0, most=10) == []


def test_who_discards_again_begins_the_days_in_the_trash_anew(state: StateDirectory) -> None:
    state.create_session(SESSION).close()
    discard(state, SESSION)
    (found,) = state.trashed()
    for day in (1, 2):
        assert state.empty_trash(found.changed + day * DAY, days=3, most=10) == []
    state.undo(SESSION)
    discard(state, SESSION)
    assert state.empty_trash(found.changed + 4 * DAY, days=3, most=10) == []


@pytest.mark.parametrize("raw", [b"", b"{}", b'{"schema": 1, "sessions": {"a": 1}}', b"\xff", None])
def test_a_note_of_the_days_in_the_trash_that_is_damaged_keeps_what_is_there(
    state: StateDirectory, tmp_path: Path, raw: bytes | None
) -> None:
    state.create_session(SESSION).close()
    discard(state, SESSION)
    (found,) = state.trashed()
    note = tmp_path / "pdfs" / "trash.json"
    for day in range(3):
        assert state.empty_trash(found.changed + day * DAY, days=3, most=10) == []
    assert stat.S_IMODE(note.stat().st_mode) == FILE_MODE
    note.unlink() if raw is None else note.write_bytes(raw)
    for day in range(4, 7):
        assert state.empty_trash(found.changed + day * DAY, days=3, most=10) == []
    assert state.empty_trash(found.changed + 7 * DAY, days=3, most=10) == [SESSION]


def test_a_day_that_can_not_be_noted_does_not_count_and_hinders_nothing(
    state: StateDirectory, disk: FaultyDisk, tmp_path: Path, expected_warnings: ExpectedWarnings
) -> None:
    state.create_session(SESSION).close()
    discard(state, SESSION)
    (found,) = state.trashed()
    assert state.empty_trash(found.changed, days=1, most=10) == []
    disk.fault = Fault(at=1, error=errno.ENOSPC, calls=frozenset({"pwritev"}))
    (tmp_path / "pdfs" / "trash" / f"{OTHER}.old").mkdir()
    assert state.empty_trash(found.changed + 9 * DAY, days=1, most=10) == []
    assert "stays longer" in expected_warnings.take("stays longer").getMessage()
    assert [path.name for path in (tmp_path / "pdfs" / "trash").iterdir()] == [SESSION]


def test_a_deletion_that_a_crash_cut_short_is_finished_by_the_next_one(
    state: StateDirectory, disk: FaultyDisk, tmp_path: Path
) -> None:
    with state.create_session(SESSION) as session:
        session.write_snapshot(b"the tree")
    discard(state, SESSION)
    disk.fault = Fault(at=2, error=errno.EIO, calls=frozenset({"unlink"}))
    with pytest.raises(DiskError):
        state.empty_trash(1e12, days=0, most=10)
    disk.fault = None
    assert state.trashed() == []
    with pytest.raises(SessionNotFound):
        state.undo(SESSION)
    assert state.empty_trash(0.0, days=0, most=10) == []
    assert list((tmp_path / "pdfs" / "trash").iterdir()) == []


@pytest.mark.parametrize("at", range(1, 8))
def test_a_removed_session_is_nowhere_though_its_files_can_not_be_deleted(
    state: StateDirectory,
    disk: FaultyDisk,
    tmp_path: Path,
    expected_warnings: ExpectedWarnings,
    at: int,
) -> None:
    """Its work is in the bucket: that is its outcome. Nor is it ever half there, as damaged."""
    with state.create_session(SESSION) as session:
        session.write_snapshot(b"the tree")
        (session_path(tmp_path) / "unknown" / "below").mkdir(parents=True)
        disk.fault = Fault(at=at, error=errno.EIO, calls=frozenset({"unlink", "rmdir", "fsync"}))
        state.remove(session)
    disk.fault = None
    warned = expected_warnings.take("is over, and is deleted later").getMessage()
    assert f"{SESSION} is over" in warned
    assert "Input/output error" in warned
    assert state.sessions() == state.trashed() == []
    assert state.empty_trash(0.0, days=0, most=10) == []
    assert list((tmp_path / "pdfs" / "trash").iterdir()) == []


def test_a_session_that_can_not_be_removed_stays_as_it_was(
    state: StateDirectory, disk: FaultyDisk, session: SessionDirectory
) -> None:
    disk.fault = Fault(at=1, error=errno.EIO, calls=frozenset({"rename"}))
    with pytest.raises(DiskError, match="can't remove session"):
        state.remove(session)
    assert held(state) == {SESSION: True}


@pytest.mark.parametrize("name", ["damaged", "aside", "what/nobody/knows"])
def test_a_session_is_removed_with_whatever_is_in_it(
    state: StateDirectory, session: SessionDirectory, tmp_path: Path, name: str
) -> None:
    """Also what an older version of PDFS left."""
    below = session_path(tmp_path) / name
    below.mkdir(parents=True)
    (below / "journal-1.wal").write_bytes(b"old")
    (below / "link").symlink_to(tmp_path)
    state.remove(session)
    assert list((tmp_path / "pdfs" / "trash").iterdir()) == []


def test_who_empties_the_trash_leaves_what_its_session_is_deleting(
    state: StateDirectory, session: SessionDirectory, tmp_path: Path
) -> None:
    session.write_snapshot(b"the tree")
    old = session_path(tmp_path).rename(tmp_path / "pdfs" / "trash" / f"{SESSION}.old")
    assert state.empty_trash(0.0, days=0, most=10) == []
    assert sorted(path.name for path in old.iterdir()) == ["session.lock", "snapshot"]
    session.close()
    assert state.empty_trash(0.0, days=0, most=10) == []
    assert not old.exists()


@pytest.mark.parametrize("call", [1, 2, 3])
def test_a_session_is_removed_while_somebody_deletes_what_is_in_it(
    state: StateDirectory, session: SessionDirectory, tmp_path: Path, call: int
) -> None:
    """Its lock goes a moment before its directory; then another process may be at it."""
    session.write_snapshot(b"the tree")
    session.note_damage()
    disk, left = cast(FaultyDisk, state._disk), call

    def meanwhile(real: Callable[[int, str], None], directory: int, name: str) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            shutil.rmtree(tmp_path / "pdfs" / "trash" / f"{SESSION}.old")
        real(directory, name)

    disk.unlink = partial(meanwhile, disk.unlink)  # type: ignore[method-assign]  # for this one
    disk.rmdir = partial(meanwhile, disk.rmdir)  # type: ignore[method-assign]  # for this one
    state.remove(session)
    assert left <= 0
    assert list((tmp_path / "pdfs" / "trash").iterdir()) == []


def test_the_pid_of_a_session_decides_nothing(state: StateDirectory) -> None:
    """After a reboot another process has it: a daemon lives as long as it has its flock."""
    gone = subprocess.Popen(["true"])
    gone.wait()
    with state.create_session(SESSION) as held:
        held.describe({"pid": gone.pid})
        assert [listed.is_held for listed in state.sessions()] == [True]
        with pytest.raises(LockError):
            state.open_session(SESSION)
    with state.open_session(SESSION) as held:
        held.describe({"pid": os.getpid()})
    assert [listed.is_held for listed in state.sessions()] == [False]
    state.open_session(SESSION).close()


# --- read-only mounts -----------------------------------------------------------------------------


def test_a_read_only_mount_is_no_session_and_goes_without_a_trace(
    state: StateDirectory, tmp_path: Path
) -> None:
    with state.create_reader(SESSION) as reader:
        reader.describe({"mountpoint": "/mnt/look"})
        assert state.sessions() == []
        (listed,) = state.readers()
        assert (listed.session, listed.is_held) == (SESSION, True)
        with pytest.raises(LockError):
            state.open_reader(SESSION)
        with pytest.raises(SessionNotFound):
            state.open_session(SESSION)
        state.remove_reader(reader)
    assert state.readers() == []
    assert list((tmp_path / "pdfs" / "readers").iterdir()) == []
    assert list((tmp_path / "pdfs" / "trash").iterdir()) == []


def test_what_a_crash_left_of_a_read_only_mount_is_listed_and_can_be_removed(
    state: StateDirectory,
) -> None:
    state.create_reader(SESSION).close()
    (listed,) = state.readers()
    assert not listed.is_held
    state.remove_reader(state.open_reader(SESSION))
    with pytest.raises(SessionNotFound):
        state.open_reader(SESSION)
