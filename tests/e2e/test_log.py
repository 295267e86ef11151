"""The log of real sessions: through a kill -9, and where it can't be written."""

from tests.e2e.conftest import MakeMachine
from tests.e2e.machines import PROJECT, Bucket, Machine


def steps(lines: list[dict[str, object]]) -> list[object]:
    """States and events, but for what the background tells when it comes to it.

    A store in a directory has a message where kill -9 hit a write and left a part of it.
    """
    background = ("taken_in", "fetched", "message")
    return [line.get("state", line["event"]) for line in lines if line["event"] not in background]


def events(here: Machine) -> list[object]:
    return [line["event"] for line in here.logged()]


def test_a_session_is_told_from_its_begin_through_a_crash_to_its_end(
    bucket: Bucket, machine: MakeMachine
) -> None:
    here = machine(bucket)
    mounted = here.mount("--create")
    (mounted / "drawing.dxf").write_text("drawn\n")
    before = here.logged()
    assert steps(before) == [
        "begun",
        "ACQUIRING",
        "lock_taken",
        "DOWNLOADING",
        "ACTIVE",
        "mounted",
    ]
    assert (before[0]["user"], before[0]["machine"]) == (here.user, here.name)
    here.kill()
    after = here.logged()
    assert after[: len(before)] == before
    here.mount()
    here.pdfs("umount", mounted)
    here.wait_released()
    lines = here.logged()
    assert lines[: len(after)] == after
    assert [line["n"] for line in lines] == list(range(1, len(lines) + 1))
    rest = steps(lines[len(after) :])
    assert rest[:6] == ["resumed", "ACQUIRING", "lock_taken", "RESTORING", "ACTIVE", "mounted"]
    assert rest[rest.index("asked") :] == [
        "asked",
        "unmounted",
        "UPLOADING",
        "publish_begun",
        "committed",
        "published",
        "lock_released",
        "CLOSED",
        "outcome",
        "ended",
    ]
    (published,) = [line for line in lines if line["event"] == "published"]
    assert (published["files"], published["bytes"], published["missing"]) == (1, 6, 0)
    (log,) = (here.home / "state" / "pdfs" / "logs").glob("*.jsonl*")
    assert log.name == f"{lines[0]['session']}.jsonl"


def test_a_session_that_was_discarded_says_so_and_goes_on_when_it_is_brought_back(
    bucket: Bucket, machine: MakeMachine
) -> None:
    here = machine(bucket)
    (here.mount("--create") / "drawing.dxf").write_text("drawn\n")
    here.kill()
    here.pdfs("recover", "discard", PROJECT, "--yes")
    assert events(here)[-3:] == ["resumed", "discarded", "ended"]
    here.pdfs("recover", "undo")
    assert events(here)[-2:] == ["resumed", "brought_back"]
    (log,) = (here.home / "state" / "pdfs" / "logs").glob("*.jsonl*")
    assert log.suffix == ".__partial__"
    here.pdfs("recover", "resume", PROJECT)
    assert events(here).count("ended") == 2
    assert {"published", "lock_released"} <= set(events(here))


def test_a_log_that_cannot_be_written_is_told_and_hinders_nothing(
    bucket: Bucket, machine: MakeMachine
) -> None:
    here = machine(bucket)
    mounted = here.mount("--create")
    (mounted / "drawing.dxf").write_text("drawn\n")
    here.kill()
    (log,) = (here.home / "state" / "pdfs" / "logs").glob("*.jsonl.__partial__")
    victim = here.home / "victim"
    victim.write_text("somebody's")
    log.unlink()
    log.symlink_to(victim)
    here.mount()
    (session,) = here.sessions()
    assert "symlink" in session["trouble"]
    assert (mounted / "drawing.dxf").read_text() == "drawn\n"
    here.pdfs("umount", mounted)
    assert "drawing.dxf" in here.pdfs("ls", f"{PROJECT}/planning")
    assert victim.read_text() == "somebody's"
