"""Every call that the journal makes of the disk fails, once and for ever (J4)."""

import errno
from pathlib import Path

import pytest

from pdfs.errors import DiskFull, JournalFailed
from pdfs.local.sizes import ALONE, JournalSizes
from tests.local.crashing_disk import CrashingDisk, PowerCuts, SyncFailed, materialize
from tests.local.faulty_disk import Fault
from tests.local.journals import replay
from tests.local.witness import SMALL, Witness

FULL = (errno.ENOSPC, errno.EDQUOT)
ERRORS = [errno.EIO, *FULL, errno.EINTR, 0]


def run(root: Path, fault: Fault | None, sizes: JournalSizes) -> Witness:
    root.mkdir()
    witness = Witness(CrashingDisk(root, fault))
    witness.run(root, sizes=sizes)
    return witness


@pytest.fixture(scope="module", params=[ALONE, SMALL], ids=["growing", "allocated"])
def sizes(request: pytest.FixtureRequest) -> JournalSizes:
    assert isinstance(request.param, JournalSizes)
    return request.param


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory, sizes: JournalSizes) -> list[str]:
    """What an undisturbed session calls."""
    witness = run(tmp_path_factory.mktemp("calls") / "journal", None, sizes)
    assert witness.is_closed
    assert len(witness.acknowledged) > 15
    return witness.disk.made


def test_the_session_makes_every_kind_of_call(calls: list[str], sizes: JournalSizes) -> None:
    allocating = {"allocate"} if sizes.segment else set()
    assert set(calls) - allocating == {
        *("open", "pwritev", "fdatasync", "fsync", "ftruncate", "rename")
    }
    assert allocating <= set(calls)
    assert len(calls) > 50


@pytest.mark.figure(name="J4")
@pytest.mark.parametrize("for_ever", [False, True], ids=["once", "for ever"])
@pytest.mark.parametrize("takes", [0, 60], ids=["nothing", "torn"])
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: errno.errorcode.get(error, "short"))
def test_no_failing_call_loses_what_was_acknowledged(
    calls: list[str],
    tmp_path: Path,
    error: int,
    takes: int,
    for_ever: bool,
    sizes: JournalSizes,
    seed: int,
    is_full: bool,
) -> None:
    numbered = list(enumerate(calls, start=1))
    for number, call in numbered if is_full else numbered[seed % 2 :: 2]:
        fault = Fault(at=number, error=error, for_ever=for_ever, takes=takes)
        witness = run(tmp_path / str(number), fault, sizes)
        assert witness.disk.failed
        is_harmless = error == 0 or (error == errno.EINTR and call == "pwritev")
        may_do_with_less = call == "allocate" and error in FULL
        if not for_ever and may_do_with_less and not witness.told:
            pass
        elif not for_ever:
            assert bool(witness.told) != is_harmless, (number, call)
        elif error:
            assert witness.told
        check_errors(witness, error, call)
        check_process_death(witness, tmp_path / str(number))


def check_errors(witness: Witness, error: int, call: str) -> None:
    """A full disk is only that where a write, not a sync, said so; all else is for ever."""
    kinds = [type(told) for _, told in witness.told]
    if error not in FULL:
        assert set(kinds) <= {JournalFailed}
    if JournalFailed in kinds and witness.told[0][0] != "create":
        first = kinds.index(JournalFailed)
        assert set(kinds[first:]) == {JournalFailed}
        assert witness.told[-1][0] == "close"
    if call in ("fsync", "fdatasync") and error:
        assert kinds[0] is JournalFailed
    if error in FULL and call not in ("fsync", "fdatasync") and kinds:
        assert kinds[0] is DiskFull


def check_process_death(witness: Witness, root: Path) -> None:
    """What is in the files when the process is gone is what was acknowledged, no more, no less."""
    result = replay(root)
    assert result.records == witness.acknowledged
    assert result.end.damage is None
    assert result.end.is_whole or not witness.is_closed
    assert len(result.records) >= witness.promised(len(witness.disk.log))


@pytest.mark.figure(name="J4")
@pytest.mark.parametrize("for_ever", [False, True], ids=["once", "for ever"])
@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC], ids=errno.errorcode.__getitem__)
def test_a_failed_sync_is_never_later_reported_as_success(
    calls: list[str], tmp_path: Path, seed: int, error: int, for_ever: bool, sizes: JournalSizes
) -> None:
    """fsyncgate: what a failed sync covered is gone at the power cut, though a retry succeeds."""
    syncs = [number for number, call in enumerate(calls, start=1) if call.endswith("sync")]
    for number in syncs:
        root = tmp_path / str(number)
        witness = run(root, Fault(at=number, error=error, for_ever=for_ever), sizes)
        failed = next(
            n for n, event in enumerate(witness.disk.log) if isinstance(event, SyncFailed)
        )
        cuts = PowerCuts(witness.disk, seed, tears=2)
        for cut, state in cuts.states(per_cut=3, since=failed):
            materialize(state, tmp_path / "cut")
            result = replay(tmp_path / "cut")
            assert result.records == witness.acknowledged[: len(result.records)]
            assert len(result.records) >= witness.promised(cut)
            assert result.end.damage is None
