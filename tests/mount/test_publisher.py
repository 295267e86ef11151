"""Publishing while the stage stays mounted: who asks when, and what comes of it."""

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
import trio

from pdfs.errors import LockLost
from pdfs.mount.control import Result
from pdfs.mount.publisher import Publisher
from tests.conftest import ExpectedWarnings

TAKES = 10.0
"""Seconds that a publish takes here."""


@dataclass(slots=True)
class Publishes:
    """Counts them; each answers with its number."""

    begun: list[float] = field(default_factory=list)
    error: LockLost | None = None

    async def publish(self) -> Result:
        self.begun.append(trio.current_time())
        number = len(self.begun)
        await trio.sleep(TAKES)
        if self.error is not None:
            raise self.error
        return {"number": number}


@dataclass(slots=True)
class Asker:
    """Somebody who asked once."""

    result: Result | None = None
    error: LockLost | None = None
    at: float = 0.0

    async def ask(self, publisher: Publisher) -> None:
        try:
            self.result = await publisher.published()
        except LockLost as error:
            self.error = error
        self.at = trio.current_time()


def publisher_of(
    publishes: Publishes, *, every: float = 0.0, has_work: Callable[[], bool] = lambda: True
) -> Publisher:
    return Publisher(publishes.publish, every=every, has_work=has_work)


async def test_who_asks_during_a_publish_gets_the_next_and_all_of_them_share_it() -> None:
    publishes, askers = Publishes(), [Asker() for _ in range(4)]
    publisher, begun = publisher_of(publishes), trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(publisher.run)
        for asker, after in zip(askers, (0.0, 1.0, 1.0, 9.0), strict=True):
            await trio.sleep_until(begun + after)
            nursery.start_soon(asker.ask, publisher)
        await trio.sleep(30.0)
        nursery.cancel_scope.cancel()
    assert [asker.result for asker in askers] == [{"number": n} for n in (1, 2, 2, 2)]
    assert len(publishes.begun) == 2


@pytest.mark.parametrize("amid", [False, True], ids=["waiting", "amid a publish"])
async def test_who_waits_when_the_mount_ends_is_sent_on_to_the_end(amid: bool) -> None:
    publishes, asker, late = Publishes(), Asker(), Asker()
    publisher = publisher_of(publishes)
    async with trio.open_nursery() as nursery:
        async with trio.open_nursery() as mount:
            mount.start_soon(publisher.run)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(asker.ask, publisher)
            if amid:
                await trio.sleep(1.0)
            mount.cancel_scope.cancel()
        nursery.start_soon(late.ask, publisher)
    assert asker.result is late.result is None


async def test_an_error_reaches_who_asked_and_the_next_publish_is_made_all_the_same() -> None:
    publishes, first, second = Publishes(error=LockLost("gone")), Asker(), Asker()
    publisher = publisher_of(publishes)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(publisher.run)
        nursery.start_soon(first.ask, publisher)
        await trio.sleep(11.0)
        publishes.error = None
        nursery.start_soon(second.ask, publisher)
        await trio.sleep(11.0)
        nursery.cancel_scope.cancel()
    assert first.error is not None
    assert second.result == {"number": 2}


async def test_it_publishes_by_itself_where_there_is_work_and_tells_a_failure_once(
    expected_warnings: ExpectedWarnings,
) -> None:
    publishes, work = Publishes(), True
    publisher, begun = publisher_of(publishes, every=90.0, has_work=lambda: work), 0.0
    async with trio.open_nursery() as nursery:
        begun = trio.current_time()
        nursery.start_soon(publisher.run)
        await trio.sleep(250.0)
        assert [at - begun for at in publishes.begun] == [90.0, 190.0]
        work = False
        await trio.sleep(1000.0)
        assert len(publishes.begun) == 2
        work, publishes.error = True, LockLost("gone")
        await trio.sleep(1000.0)
        nursery.cancel_scope.cancel()
    assert len(publishes.begun) > 5
    expected_warnings.take("what was to be published by itself was not: gone")
