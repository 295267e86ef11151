"""What begins a break-off of a session that is told to stop, and when."""

import math
import signal

import pytest
import trio

from pdfs.core.notes import Note
from pdfs.core.states import State
from pdfs.mount.stopping import SIGNALS, Stopping


class Stops:
    """A session that is in a given state, and mounted if it is ACTIVE."""

    def __init__(self, state: State, limit: float = 45.0, *, is_mounted: bool = True) -> None:
        self.state = state
        self.cuts = 0
        self.asked: list[Note] = []
        self.stopping = Stopping(
            limit,
            state=lambda: self.state,
            is_mounted=lambda: is_mounted and self.state is State.ACTIVE,
            cut_off=self.cut_off,
            note=self.asked.append,
        )

    async def cut_off(self) -> None:
        self.cuts += 1
        self.state = State.UPLOADING
        await trio.lowlevel.checkpoint()

    async def after(self, *signals: tuple[float, int]) -> float:
        """Seconds until the break-off with signals at those times; infinite without one."""
        begun = trio.current_time()
        async with self.stopping.heard():
            with trio.move_on_after(3600.0), self.stopping.scope:
                for at, number in signals:
                    await trio.sleep_until(begun + at)
                    signal.raise_signal(number)
                await trio.sleep_forever()
        return trio.current_time() - begun if self.stopping.why else math.inf


@pytest.mark.parametrize("number", SIGNALS)
async def test_after_a_signal_a_session_publishes_for_so_long_and_no_longer(number: int) -> None:
    stops = Stops(State.ACTIVE)
    assert await stops.after((0.0, number)) == 45.0
    assert stops.cuts == 1
    assert stops.stopping.why.startswith("45 s after SIG")


async def test_a_publish_that_nobody_signalled_to_has_all_the_time() -> None:
    assert await Stops(State.UPLOADING).after() == math.inf


async def test_a_limit_of_0_is_none() -> None:
    assert await Stops(State.ACTIVE, limit=0).after((0.0, signal.SIGTERM)) == math.inf


@pytest.mark.parametrize("state", [State.ACTIVE, State.UPLOADING])
async def test_signals_in_one_breath_are_one_and_a_later_one_breaks_off(state: State) -> None:
    """As at logout: SIGTERM and SIGHUP, or SIGHUP by shell and kernel."""
    stops = Stops(state)
    ended = await stops.after(
        (0.0, signal.SIGTERM), (0.0, signal.SIGHUP), (0.9, signal.SIGTERM), (1.1, signal.SIGINT)
    )
    assert ended == pytest.approx(1.1)
    assert stops.stopping.why == "by a second signal, SIGINT"
    assert stops.cuts == (state is State.ACTIVE)
    assert len(stops.asked) == 4


@pytest.mark.parametrize("state", [State.ACQUIRING, State.DOWNLOADING, State.RESTORING])
async def test_a_signal_before_there_is_a_mount_breaks_off_at_once(state: State) -> None:
    stops = Stops(state)
    assert await stops.after((0.0, signal.SIGTERM)) == 0.0
    assert stops.stopping.why == "by SIGTERM, before it was mounted"


@pytest.mark.parametrize("state", [State.ACTIVE, State.UPLOADING])
async def test_a_signal_after_the_mount_has_gone_leaves_all_of_its_time(state: State) -> None:
    stops = Stops(state, is_mounted=False)
    assert await stops.after((0.0, signal.SIGTERM)) == 45.0
    assert stops.cuts == 0
