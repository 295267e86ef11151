"""Requests side by side: how many at once, and which error comes out."""

from collections.abc import Awaitable, Callable, Iterator

import pytest
import trio

from pdfs.errors import LockLost, PdfsError, StoreRefused, StoreUnavailable
from pdfs.stage.together import background, together

Call = Callable[[], Awaitable[None]]


def after(seconds: float, error: BaseException | None = None) -> Call:
    async def call() -> None:
        await trio.sleep(seconds)
        if error is not None:
            raise error

    return call


async def test_all_calls_are_done_when_it_returns() -> None:
    done: list[int] = []

    def call(number: int) -> Call:
        async def run() -> None:
            await trio.sleep(number % 3)
            done.append(number)

        return run

    await together([call(number) for number in range(20)], most=3)
    assert sorted(done) == list(range(20))


async def test_no_more_calls_run_at_once_than_it_may() -> None:
    running, most = 0, 0

    async def call() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await trio.sleep(1)
        running -= 1

    began = trio.current_time()
    await together([call] * 10, most=4)
    assert most == 4
    assert trio.current_time() - began == pytest.approx(3)


async def test_a_call_is_asked_for_when_its_turn_has_come() -> None:
    asked = done = 0

    async def call() -> None:
        nonlocal done
        await trio.sleep(1)
        done += 1

    def calls() -> Iterator[Call]:
        nonlocal asked
        for _ in range(20):
            asked += 1
            assert asked - done <= 3
            yield call

    await together(calls(), most=3)
    assert done == 20


async def test_calls_that_wait_for_nothing_let_others_go_on() -> None:
    order: list[str] = []

    async def other() -> None:
        for _ in range(5):
            await trio.lowlevel.checkpoint()
        order.append("other")

    async def call() -> None:
        order.append("call")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(other)
        await together([call] * 100, most=1)
        assert "other" in order[:50]


async def test_no_calls_are_soon_done() -> None:
    await together([], most=3)


async def test_the_first_error_comes_out_as_it_is_and_ends_the_others() -> None:
    error = StoreUnavailable("first")
    began = trio.current_time()
    with pytest.raises(StoreUnavailable) as raised:
        await together([after(5), after(1, error), after(2, StoreRefused("later"))], most=9)
    assert raised.value is error
    assert trio.current_time() - began == pytest.approx(1)


async def test_calls_that_had_no_turn_yet_do_nothing_after_an_error() -> None:
    begun: list[int] = []

    async def fails() -> None:
        begun.append(1)
        raise StoreRefused("no")

    async def other() -> None:
        await trio.sleep(1)
        begun.append(2)

    with pytest.raises(StoreRefused):
        await together([fails, *[other] * 5], most=1)
    assert begun[-1] == 1


async def test_of_errors_that_come_at_once_a_lost_lock_goes_first() -> None:
    def too_late_to_cancel(error: PdfsError) -> Call:
        async def run() -> None:
            with trio.CancelScope(shield=True):
                await trio.sleep(1)
            raise error

        return run

    for errors in ([StoreRefused("x"), LockLost("y")], [LockLost("y"), StoreRefused("x")]):
        for _ in range(10):  # tasks take turns in any order
            with pytest.raises(LockLost):
                await together([too_late_to_cancel(error) for error in errors], most=2)


async def test_cancellation_from_outside_passes_through() -> None:
    with trio.move_on_after(1) as scope:
        await together([after(5)], most=1)
    assert scope.cancelled_caught


async def test_an_error_in_the_code_is_not_swallowed() -> None:
    with pytest.raises(ExceptionGroup) as raised:
        await together([after(1, ZeroDivisionError()), after(5)], most=2)
    assert raised.group_contains(ZeroDivisionError)


# --- background -----------------------------------------------------------------------------------


async def test_a_background_task_runs_with_the_body_and_ends_with_it() -> None:
    ticks: list[float] = []

    async def tick() -> None:
        while True:
            await trio.sleep(1)
            ticks.append(trio.current_time())

    async with background(tick):
        await trio.sleep(3.5)
    assert len(ticks) == 3


@pytest.mark.parametrize("error", [LockLost("gone"), KeyboardInterrupt()])
async def test_an_error_of_the_body_comes_out_as_it_is(error: BaseException) -> None:
    with pytest.raises(type(error)) as raised:
        async with background(trio.sleep_forever):
            raise error
    assert raised.value is error


async def test_a_task_that_ends_early_does_not_end_the_body() -> None:
    async with background(after(1)):
        await trio.sleep(2)


async def test_cancelling_the_body_cancels_the_task_too() -> None:
    with trio.move_on_after(1) as scope:
        async with background(trio.sleep_forever):
            await trio.sleep_forever()
    assert scope.cancelled_caught
