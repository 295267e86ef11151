"""`publish --set-aside` on a carrier whose mount is a story, where the bucket refuses keys."""

from pathlib import Path

import pytest
import trio

from pdfs.core.ids import Path as KeyPath
from pdfs.errors import NotFoundError, SessionError, UsageError
from pdfs.mount.control import Result
from pdfs.store.faulty import Fate, Request
from pdfs.store.step import Step
from tests.fs.process import Process
from tests.mount.carriers import Desk, Story, stand_in_for_fuse
from tests.stage.contexts import FateOf, Site


@pytest.fixture(autouse=True)
def no_mount_to_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    async def sync(mountpoint: str) -> None:
        await trio.lowlevel.checkpoint()

    monkeypatch.setattr("pdfs.mount.commands.sync_mount", sync)


class Warden:
    """Refuses writes to some plain objects, as a policy of the bucket may."""

    def __init__(self, site: Site, *paths: str) -> None:
        self.keys = {site.keys.plain(KeyPath(path)) for path in paths}
        self.is_on_duty = False

    def fate_of(self, request: Request) -> Fate:
        refuses = self.is_on_duty and request.is_write and request.key in self.keys
        return Fate.REFUSED if refuses else Fate.FINE


async def carried(
    monkeypatch: pytest.MonkeyPatch, desk: Desk, fate_of: FateOf, story: Story
) -> int:
    """The exit code of a session that mounts for that story, at a bucket with these fates."""
    stand_in_for_fuse(monkeypatch, story)
    async with trio.open_nursery() as late:
        code = await desk.carry(desk.site.context(store=desk.site.behind(late, fate_of)))
        late.cancel_scope.cancel()
    return code


async def refused(desk: Desk, *paths: str) -> None:
    """Return when the publish under way can't go on, for these paths at least."""
    assert desk.carrier is not None
    while not set(paths or ("f",)) <= set(desk.carrier._session.refused):  # noqa: ASYNC110 - on a virtual clock
        await trio.sleep(1)


async def set_aside(desk: Desk, *rounds: tuple[str, ...]) -> Result:
    """Give the word for what is refused, round by round; the last answer."""
    assert desk.carrier is not None
    answers: list[Result] = []

    async def give(paths: tuple[str, ...]) -> None:
        assert desk.carrier is not None
        answers.append(await desk.carrier.commands.publish({"set_aside": list(paths)}))

    async with trio.open_nursery() as nursery:
        for paths in rounds:
            await refused(desk, *paths)
            nursery.start_soon(give, paths)
    return answers[-1]


async def test_a_publish_ends_without_what_is_set_aside_and_the_next_one_tries_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = Site()
    desk, warden = Desk(tmp_path, site), Warden(site, "f", "gone")

    async def work(process: Process) -> None:
        assert desk.carrier is not None
        carrier = desk.carrier
        for name in ("f", "gone"):
            process.write_file(name, b"first")
        await carrier.commands.publish()
        process.write_file("f", b"second")
        process.write_file("g", b"other")
        process.unlink("gone")
        warden.is_on_duty = True
        async with trio.open_nursery() as nursery:
            nursery.start_soon(carrier.commands.publish)
            answer = await set_aside(desk, ("f",), ("gone",))
        assert (answer["exit_code"], answer["aside"]) == (0, ("f", "gone"))
        status = await carrier.commands.status()
        assert (status["aside"], status["refused"]) == (("f", "gone"), {})
        assert [desk.plain(name) for name in ("f", "g", "gone")] == [b"first", b"other", b"first"]
        assert await process.read_file("f") == b"second"
        warden.is_on_duty = False
        assert (await carrier.commands.publish())["aside"] == ()
        assert desk.plain("f") == b"second"
        assert not desk.has_plain("gone")

    assert await carried(monkeypatch, desk, warden.fate_of, work) == 0
    assert desk.conflicts() == []
    told = [line["path"] for line in desk.logged() if line["event"] == "set_aside"]
    assert told == ["f", "gone"]


async def test_a_word_holds_in_its_session_until_the_bucket_has_taken_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = Site()
    desk, warden = Desk(tmp_path, site), Warden(site, "f")

    async def work(process: Process) -> None:
        assert desk.carrier is not None
        carrier = desk.carrier
        process.write_file("f", b"first")
        warden.is_on_duty = True
        async with trio.open_nursery() as nursery:
            nursery.start_soon(carrier.commands.publish)
            await set_aside(desk, ("f",))
        for text in (b"", b"drawn on", b"and on"):  # the first time, there is nothing to publish
            if text:
                process.write_file("f", text)
                process.write_file("g", text)
            answer = await carrier.commands.publish()
            assert (answer["exit_code"], answer["aside"]) == (0, ("f",))
            assert not text or desk.plain("g") == text
        warden.is_on_duty = False
        assert (await carrier.commands.publish())["aside"] == ()
        assert desk.plain("f") == b"and on"
        process.write_file("f", b"once more")
        warden.is_on_duty = True
        async with trio.open_nursery() as nursery:
            nursery.start_soon(carrier.commands.publish)
            await refused(desk)  # the word is spent
            warden.is_on_duty = False

    assert await carried(monkeypatch, desk, warden.fate_of, work) == 0
    assert desk.plain("f") == b"once more"


async def wait_until_settled(desk: Desk) -> None:
    assert desk.carrier is not None
    while not desk.carrier._session.is_settled:  # noqa: ASYNC110 - on a virtual clock
        await trio.sleep(1)


async def leave_aside(
    path: Path, site: Site, warden: Warden, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A session whose end has set aside a replaced file, a new one and a removal."""
    path.mkdir()  # noqa: ASYNC240 - nobody waits for it
    desk = Desk(path, site)

    async def draw(process: Process) -> None:
        assert desk.carrier is not None
        for name in ("f", "gone", "other"):
            process.write_file(name, b"first")
        await desk.carrier.commands.publish()
        process.write_file("f", b"second")
        process.write_file("new", b"new")
        process.unlink("gone")
        warden.is_on_duty = True

    stand_in_for_fuse(monkeypatch, draw)
    async with trio.open_nursery() as late:
        ctx = site.context(store=site.behind(late, warden.fate_of))
        async with trio.open_nursery() as nursery:

            async def carry() -> None:
                assert await desk.carry(ctx) == 0

            nursery.start_soon(carry)
            while not warden.is_on_duty:  # noqa: ASYNC110 - on a virtual clock
                await trio.sleep(1)
            answer = await set_aside(desk, ("f", "new"), ("gone",))
            assert (answer["exit_code"], answer["aside"]) == (0, ("f", "gone", "new"))
        late.cancel_scope.cancel()


@pytest.mark.parametrize("is_changed", [True, False], ids=["other work", "no work"])
async def test_what_the_end_of_a_session_set_aside_the_end_of_the_next_publishes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_changed: bool
) -> None:
    site = Site()
    warden = Warden(site, "f", "gone", "new")
    await leave_aside(tmp_path / "1", site, warden, monkeypatch)
    later = Desk(tmp_path / "2", site)
    later.path.mkdir()

    async def look(process: Process) -> None:
        await wait_until_settled(later)
        assert sorted(process.listdir("")) == ["f", "new", "other"]
        assert await process.read_file("f") == b"second"
        assert later.carrier is not None
        assert (await later.carrier.commands.status())["aside"] == ("f", "gone", "new")
        if is_changed:
            process.write_file("other", b"other, longer")

    stand_in_for_fuse(monkeypatch, look)
    assert await later.carry(site.context()) == 0
    assert [later.plain(name) for name in ("f", "new")] == [b"second", b"new"]
    assert not later.has_plain("gone")
    assert later.conflicts() == []
    told = [event["aside"] for event in later.events if event["event"] == "mounted"]
    assert told == [("f", "gone", "new")]
    assert later.carrier is not None
    assert later.carrier.closed()["aside"] == ()


async def test_what_is_refused_once_more_stays_aside_at_the_next_end_and_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = Site()
    warden = Warden(site, "f", "gone", "new")
    await leave_aside(tmp_path / "1", site, warden, monkeypatch)
    later = Desk(tmp_path / "2", site)
    later.path.mkdir()
    tried: list[str] = []

    def fate_of(request: Request) -> Fate:
        fate = warden.fate_of(request)
        if fate is Fate.REFUSED:
            tried.append(request.key.rpartition("/")[2])
        return fate

    async def look(process: Process) -> None:
        await wait_until_settled(later)

    assert await carried(monkeypatch, later, fate_of, look) == 0
    assert later.carrier is not None
    assert later.carrier.closed()["aside"] == ("f", "gone", "new")
    assert sorted(tried) == ["f", "gone", "new"], "each is tried, and once"


async def test_a_word_for_a_file_does_not_hold_for_what_another_session_makes_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = Site()
    warden = Warden(site, "f", "gone", "new")
    await leave_aside(tmp_path / "1", site, warden, monkeypatch)
    later = Desk(tmp_path / "2", site)
    later.path.mkdir()

    async def work(process: Process) -> None:
        assert later.carrier is not None
        await wait_until_settled(later)
        process.write_file("f", b"third")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(later.carrier.commands.publish)
            await refused(later, "f")
            assert list(later.carrier._session.refused) == ["f"]
            answer = await later.carrier.commands.publish({"set_aside": ["f"]})
        assert answer["aside"] == ("f", "gone", "new")

    assert await carried(monkeypatch, later, warden.fate_of, work) == 0


async def test_what_is_done_though_it_was_refused_is_not_set_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = Site()
    desk, warden = Desk(tmp_path, site), Warden(site, "f")
    fate_of, warden_says = warden.fate_of, Fate.REFUSED

    def applied_but_refused(request: Request) -> Fate:
        return Fate.ANSWER_LOST if fate_of(request) is warden_says else Fate.FINE

    async def work(process: Process) -> None:
        assert desk.carrier is not None
        process.write_file("f", b"drawn")
        warden.is_on_duty = True
        async with trio.open_nursery() as nursery:
            nursery.start_soon(desk.carrier.commands.publish)
            await refused(desk)
            answer = await desk.carrier.commands.publish({"set_aside": ["f"]})
        assert answer["aside"] == ()

    assert await carried(monkeypatch, desk, applied_but_refused, work) == 0
    assert desk.plain("f") == b"drawn"


async def test_only_what_is_refused_can_be_set_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = Site()
    desk, warden = Desk(tmp_path, site), Warden(site, "f")

    async def work(process: Process) -> None:
        assert desk.carrier is not None
        carrier = desk.carrier
        with pytest.raises(SessionError, match="now"):
            await carrier.commands.publish({"set_aside": ["f"]})
        with pytest.raises(UsageError, match="a list of paths"):
            await carrier.commands.publish({"set_aside": "f"})
        process.write_file("f", b"drawn")
        process.write_file("g", b"drawn, and not refused")
        warden.is_on_duty = True
        async with trio.open_nursery() as nursery:
            nursery.start_soon(carrier.commands.publish)
            await refused(desk)
            for other in ("g", "unheard of"):
                with pytest.raises(NotFoundError, match=f"'{other}' is not"):
                    await carrier.commands.publish({"set_aside": ["f", other]})
            warden.is_on_duty = False

    assert await carried(monkeypatch, desk, warden.fate_of, work) == 0
    assert desk.plain("f") == b"drawn"


async def test_a_try_after_a_refusal_asks_for_the_refused_alone_and_the_lock_stays_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = Site()
    desk, warden = Desk(tmp_path, site), Warden(site, "f")
    asked: list[str] = []
    enough = trio.Event()

    def fate_of(request: Request) -> Fate:
        if request.step not in (Step.RENEW, Step.LOAD_LISTING):
            folder, _, name = request.key.rpartition("/")
            is_content = folder.endswith("/contents")
            asked.append(f"{request.operation} {'content' if is_content else name}")
        if asked.count("put f") == 12:
            enough.set()
        return warden.fate_of(request)

    async def work(process: Process) -> None:
        assert desk.carrier is not None
        await wait_until_settled(desk)
        for name in ("f", "g"):
            process.write_file(name, b"drawn")
        warden.is_on_duty = True
        async with trio.open_nursery() as nursery:
            nursery.start_soon(desk.carrier.commands.publish)
            await enough.wait()
            warden.is_on_duty = False

    assert await carried(monkeypatch, desk, fate_of, work) == 0
    last = len(asked) - asked[::-1].index("put f")
    tries = asked[asked.index("put g") :][: last - asked.index("put g")]
    again = ["get root.json", "get content", "put f"]
    assert tries[tries.index("get root.json") :] == again * 12
    events = [line["event"] for line in desk.logged()]
    assert events.count("lock_taken") == 1
    assert [line["tries"] for line in desk.logged() if line["event"] == "retry"] == [2, 4, 8]


# --- when the word comes --------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [0, 1, 2, 5, 12])
async def test_a_word_amid_an_unmount_is_answered_when_the_end_has_obeyed_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    """The unmount breaks the publish off. Its end has more to publish, and that file again."""
    site = Site()
    desk, warden = Desk(tmp_path, site), Warden(site, "f")
    answers: list[tuple[Result, bool]] = []

    async def give_the_word() -> None:
        assert desk.carrier is not None
        answer = await desk.carrier.commands.publish({"set_aside": ["f"]})
        answers.append((answer, desk.has_plain("g")))

    async def work(process: Process) -> None:
        assert desk.carrier is not None
        process.write_file("f", b"drawn")
        warden.is_on_duty = True
        beside.start_soon(desk.carrier.commands.publish)
        await refused(desk)
        process.write_file("g", b"later")
        beside.start_soon(give_the_word)
        for _ in range(steps):
            await trio.lowlevel.checkpoint()

    stand_in_for_fuse(monkeypatch, work)
    async with trio.open_nursery() as late, trio.open_nursery() as beside:
        assert await desk.carry(site.context(store=site.behind(late, warden.fate_of))) == 0
        late.cancel_scope.cancel()
    ((answer, is_all_there),) = answers
    assert (answer["exit_code"], answer["aside"]) == (0, ("f",))
    assert is_all_there or answer.get("is_mounted"), "the answer came before what it says was true"
