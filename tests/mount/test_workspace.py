"""The session on this machine's disk: patient for a publish, and damage is never deleted."""

import errno
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from pdfs.core.content import Content, content_of
from pdfs.core.ids import TOP, Fence, Inode, SessionId
from pdfs.core.ids import Path as StagePath
from pdfs.core.record import Found, Unlink
from pdfs.core.tree import new_tree
from pdfs.disk import OsDisk
from pdfs.errors import DamageFound, DiskFull, JournalDamaged, StoreUnavailable
from pdfs.local.journal_format import HEADER_SIZE
from pdfs.local.state import StateDirectory
from pdfs.mount.workspace import DiskWorkspace
from tests.local.faulty_disk import Fault, FaultyDisk
from tests.local.journals import HEADER
from tests.mount.carriers import draw

pytestmark = pytest.mark.real_clock

DATA = b"what another tool wrote"
SESSION: SessionId = HEADER.session


async def impatient(content: Content, start: int, stop: int) -> bytes:
    await trio.lowlevel.checkpoint()
    raise StoreUnavailable("the bucket did not deliver in time")


async def patient(content: Content, start: int, stop: int) -> bytes:
    await trio.lowlevel.checkpoint()
    return DATA[start:stop]


@pytest.fixture
def state(tmp_path: Path) -> Iterator[StateDirectory]:
    with StateDirectory(OsDisk(), tmp_path / "pdfs") as state:
        yield state


def workspace_of(state: StateDirectory) -> DiskWorkspace:
    return DiskWorkspace(OsDisk(), state, HEADER, {}, impatient, patient)


def files_below(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("journal-*")}


async def begin(state: StateDirectory, *names: str) -> DiskWorkspace:
    workspace = workspace_of(state)
    work = await workspace.begin(new_tree(uid=0, gid=0), Fence(1))
    draw(work.ledger, *names)
    await work.sync()
    return workspace


async def damaged(state: StateDirectory, tmp_path: Path) -> bytes:
    """A crashed session whose journal was damaged in the middle; its damaged segment."""
    workspace = await begin(state, *"abcd")
    assert workspace.work is not None
    draw(workspace.work.ledger, *"efgh")  # these say that the others were synced
    workspace.close()
    segment = tmp_path / "pdfs" / "sessions" / SESSION / "journal-1.wal.__partial__"
    raw = bytearray(segment.read_bytes())
    raw[HEADER_SIZE + (len(raw.rstrip(b"\0")) - HEADER_SIZE) // 3] ^= 0xFF
    segment.write_bytes(raw)
    return bytes(raw)


async def test_a_publish_reads_with_patience_and_a_program_within_its_bound(
    state: StateDirectory,
) -> None:
    workspace = workspace_of(state)
    work = await workspace.begin(new_tree(uid=0, gid=0), Fence(1))
    work.commit(
        Found(
            parent=TOP,
            name="f",
            path=StagePath("f"),
            ino=Inode(9),
            mode=0o644,
            uid=0,
            gid=0,
            mtime=0,
            time=0,
            content=content_of(DATA),
        )
    )
    for _ in range(2):
        node = work.tree.nodes[Inode(9)]
        assert await work.read(node, 0, len(DATA)) == DATA
        with pytest.raises(StoreUnavailable):
            await work.ledger.read(node, 0, len(DATA))
        workspace.close()
        workspace = workspace_of(state)
        resumed = workspace.resume(SESSION)
        assert resumed is not None
        work = resumed
    workspace.close()


async def test_a_session_that_is_published_leaves_nothing_on_this_machine(
    state: StateDirectory,
) -> None:
    workspace = await begin(state, "a")
    await workspace.retire()
    workspace.close()
    assert (state.sessions(), state.trashed()) == ([], [])


async def test_a_damaged_journal_goes_to_the_trash_as_it_was(
    state: StateDirectory, tmp_path: Path
) -> None:
    raw = await damaged(state, tmp_path)
    workspace = workspace_of(state)
    work = workspace.resume(SESSION)
    assert work is not None
    assert workspace.torn
    assert 0 < len(work.tree.nodes[TOP].entries) < 4
    await workspace.retire()
    workspace.close()
    assert state.sessions() == []
    (trashed,) = state.trashed()
    assert raw in files_below(tmp_path / "pdfs" / "trash" / trashed.session).values()


async def test_damage_is_kept_and_told_through_every_later_recovery(
    state: StateDirectory, tmp_path: Path
) -> None:
    """The recoveries after the one that found it meet a journal without damage."""
    raw = await damaged(state, tmp_path)
    for number in range(4):
        workspace = workspace_of(state)
        work = workspace.resume(SESSION)
        assert work is not None
        assert workspace.torn, number
        work.adopt(Fence(2 + number))
        draw(work.ledger, f"new {number}")
        workspace.close()
        assert raw in files_below(tmp_path / "pdfs" / "sessions" / SESSION).values(), number
    workspace = workspace_of(state)
    workspace.resume(SESSION)
    await workspace.retire()
    workspace.close()
    assert raw in files_below(tmp_path / "pdfs" / "trash" / SESSION).values()


async def test_damage_in_bytes_that_no_replay_reads_any_more_is_kept_and_told_likewise(
    state: StateDirectory, tmp_path: Path
) -> None:
    """They were copied by an earlier recovery, and rotted since."""
    name = "the name of a file and its content"
    (await begin(state, name)).close()
    workspace = workspace_of(state)
    workspace.resume(SESSION)
    workspace.close()
    session = tmp_path / "pdfs" / "sessions" / SESSION
    (holder,) = [file for file in session.glob("*.wal*") if name.encode() in file.read_bytes()]
    raw = holder.read_bytes().replace(name.encode(), name.upper().encode())
    holder.write_bytes(raw)
    for number in range(3):
        workspace = workspace_of(state)
        workspace.resume(SESSION)
        assert workspace.torn, number
        workspace.close()
        assert raw in [file.read_bytes() for file in session.rglob("*.wal*")], number


async def test_a_record_that_contradicts_the_tree_ends_the_replay_and_no_more(
    state: StateDirectory, tmp_path: Path
) -> None:
    """A bug of ours: what was acknowledged before it is recovered, the journal is kept."""
    workspace = await begin(state, "a", "b")
    assert workspace.work is not None
    with pytest.raises(JournalDamaged):
        workspace.work.commit(Unlink(parent=TOP, name="missing", time=0))
    workspace.close()
    kept = files_below(tmp_path / "pdfs" / "sessions" / SESSION)
    workspace = workspace_of(state)
    work = workspace.resume(SESSION)
    assert work is not None
    assert list(work.tree.nodes[TOP].entries) == ["a", "b"]
    assert "contradicts itself" in workspace.torn
    draw(work.ledger, "c")
    await workspace.retire()
    workspace.close()
    trashed = files_below(tmp_path / "pdfs" / "trash" / SESSION)
    assert set(kept.values()) <= set(trashed.values())


async def test_a_journal_of_another_stage_is_refused_and_stays_as_it_was(
    state: StateDirectory, tmp_path: Path
) -> None:
    """As where two session.json were exchanged: the one beside it says whose it is to be."""
    (await begin(state, "a")).close()
    before = files_below(tmp_path)
    header = replace(HEADER, project="Other_1")
    workspace = DiskWorkspace(OsDisk(), state, header, {}, impatient, patient)
    with pytest.raises(JournalDamaged, match=f"is of {HEADER.project}/planning"):
        workspace.resume(SESSION)
    workspace.close()
    assert files_below(tmp_path) == before


async def test_a_session_that_can_not_be_resumed_is_free_for_others_at_once(
    state: StateDirectory, tmp_path: Path
) -> None:
    (await begin(state, "a")).close()
    snapshot = tmp_path / "pdfs" / "sessions" / SESSION / "snapshot"
    raw = snapshot.read_bytes()
    snapshot.write_bytes(raw[:-1])
    workspace = workspace_of(state)
    with pytest.raises(DamageFound):
        workspace.resume(SESSION)
    assert not any(each.is_held for each in state.sessions())
    snapshot.write_bytes(raw)
    assert workspace.resume(SESSION) is not None
    workspace.close()


@pytest.mark.parametrize("for_ever", [False, True], ids=["once", "dead from there"])
def test_a_session_that_finds_no_room_for_its_description_leaves_nothing(
    tmp_path: Path, for_ever: bool
) -> None:
    full = Fault(at=1, error=errno.ENOSPC, for_ever=for_ever, calls=frozenset({"pwritev"}))
    disk = FaultyDisk(full)
    with StateDirectory(disk, tmp_path / "pdfs") as state:
        workspace = DiskWorkspace(disk, state, HEADER, {}, impatient, patient)
        with pytest.raises(DiskFull):
            workspace.prepare()
        workspace.close()
        assert (state.sessions(), state.trashed()) == ([], [])
