"""Readers of a stage that is being published: each sees one generation, the old one or the new."""

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
import trio

from pdfs.cli.bucket import opened_stage
from pdfs.config import configure
from pdfs.core.content import content_of
from pdfs.core.keys import StageKeys
from pdfs.core.moving import Numbers
from pdfs.disk import read_path
from pdfs.stage.context import StageContext
from pdfs.stage.fetch import fetch_whole
from pdfs.stage.present import read_present
from tests.conftest import Reached
from tests.e2e.conftest import MakeMachine
from tests.e2e.machines import PROJECT, Bucket, Machine
from tests.e2e.test_read_only import FOLLOW, look, wait_generation
from tests.lengths import Length

BIG = "big.bin"
"""One content that is sent by itself, among many that share an object."""
_INTERVAL = 0.1
"""Seconds between two looks, at least: the processor has others to serve."""
_FOR_HUNDREDS = 3600
"""Seconds that a test of the full length may hang; on a busy machine it takes many minutes."""


def data_of(name: str, number: int) -> bytes:
    """What a file holds in a round: it says which."""
    text = f"{number} {name}\n".encode()
    return text * (200_000 if name == BIG else 1)


def draw(directory: Path, names: list[str], number: int) -> None:
    for name in names:
        (directory / name).write_bytes(data_of(name, number))


class Polling:
    """Looks at the stage again and again, from a thread and a process of nobody's."""

    def __init__(self, machine: Machine) -> None:
        self._environ: Mapping[str, str] = machine.environ
        self._is_over = threading.Event()
        self.rounds: list[set[str]] = []
        """What each look saw: the rounds of all files."""

    @contextmanager
    def going_on(self) -> Iterator[None]:
        """Look until the body is over, and at least once before and after."""
        thread = threading.Thread(target=partial(trio.run, self._poll))
        self._look_once()
        thread.start()
        try:
            yield
        finally:
            self._is_over.set()
            thread.join()
        self._look_once()

    def _look_once(self) -> None:
        count = len(self.rounds)
        trio.run(partial(self._poll, once=True))
        assert len(self.rounds) == count + 1

    async def _poll(self, *, once: bool = False) -> None:
        configuration = configure(self._environ, {}, read_path)
        async with opened_stage(configuration, StageKeys(PROJECT, "planning")) as ctx:
            while once or not self._is_over.is_set():
                ctx.trees.clear()  # nothing of an earlier look
                began = time.monotonic()
                self.rounds.append(await self.look(ctx))
                if once:
                    return
                await trio.sleep(max(_INTERVAL, 2 * (time.monotonic() - began)))

    async def look(self, ctx: StageContext) -> set[str]:
        """The rounds of all files, by all their bytes."""
        present = await read_present(ctx, Numbers().new)
        found: set[str] = set()
        for entry in present.manifest.entries:
            if entry.content is not None:
                data = await fetch_whole(ctx, entry.content)
                number = data.decode().split(" ")[0]
                assert data == data_of(entry.path, int(number))
                found.add(number)
        return found


class PollingManifests(Polling):
    """Looks at the manifests alone, so more often."""

    def __init__(self, machine: Machine, names: list[str], last: int) -> None:
        super().__init__(machine)
        self._known = {
            content_of(data_of(name, number)).digest: str(number)
            for name in names
            for number in range(last + 1)
        }

    async def look(self, ctx: StageContext) -> set[str]:
        entries = (await read_present(ctx, Numbers().new)).manifest.entries
        return {self._known[entry.content.digest] for entry in entries if entry.content}


def assert_one_at_a_time(rounds: list[set[str]], last: int) -> None:
    """Each look saw one round, none an older one than the look before it, and the last the last."""
    assert all(len(each) == 1 for each in rounds), "a mixture of two generations"
    order = [int(*each) for each in rounds]
    assert order == sorted(order)
    assert order[-1] == last


@pytest.mark.figure(name="S5")
@pytest.mark.timeout(_FOR_HUNDREDS)
def test_a_publish_of_many_files_is_seen_by_every_reader_whole_or_not_at_all(
    bucket: Bucket, machine: MakeMachine, length: Length, reached: Reached
) -> None:
    files, last = length.pick(sample=(200, 1), full=(2000, 2), long=(2000, 50))
    names = [*(f"file-{number:04}.dxf" for number in range(files)), BIG]
    anna = machine(bucket)
    edited = anna.mount("--create")
    draw(edited, names, 0)
    anna.pdfs("publish", edited)
    bert = machine(bucket, "ws8", user="bert", timing={**anna.timing, **FOLLOW})
    held, followed = look(bert), look(bert, "--follow", name="follow")
    polling = PollingManifests(bert, names, last)
    mounted: list[set[str]] = []
    with polling.going_on():
        for number in range(1, last + 1):
            draw(edited, names, number)
            publishing = threading.Thread(target=anna.pdfs, args=("publish", edited))
            publishing.start()
            new = look(bert, name=f"new-{number}")
            mounted.append({rounds(new, name) for name in names})
            publishing.join()
            assert {rounds(held, name) for name in names} == {"0"}, "it has opened the first"
            wait_generation(bert, followed, number + 1)
            assert {rounds(followed, name) for name in names} == {str(number)}
            bert.pdfs("umount", new)
    assert_one_at_a_time(polling.rounds, last)
    assert all(len(each) == 1 for each in mounted), "a mount shows a mixture"
    reached(len(polling.rounds), "looks at a stage of many files")


def rounds(directory: Path, name: str) -> str:
    """Of which round a file in a mount is, wholly."""
    data = (directory / name).read_bytes()
    number = data.decode().split(" ")[0]
    assert data == data_of(name, int(number))
    return number


@pytest.mark.figure(name="S5")
@pytest.mark.timeout(_FOR_HUNDREDS)
def test_a_second_reader_sees_each_unmount_wholly_or_not_at_all(
    bucket: Bucket, machine: MakeMachine, length: Length, reached: Reached
) -> None:
    count = length.pick(sample=2, full=200, long=2000)
    names = ["plan.dwg", "list.csv", "model.ifc", BIG]
    anna, bert = machine(bucket), machine(bucket, "ws8", user="bert")
    draw(anna.mount("--create"), names, 0)
    anna.pdfs("umount", anna.mountpoint)
    polling = Polling(bert)
    with polling.going_on():
        for number in range(1, count + 1):
            draw(anna.mount(), names, number)
            anna.pdfs("umount", anna.mountpoint)
    assert_one_at_a_time(polling.rounds, count)
    assert len(polling.rounds) > count, "too few looks for so many unmounts"
    reached(len(polling.rounds), "looks")
    reached(count, "unmounts")
