"""Who waits for a silent bucket is told so, once, and nobody else is."""

import pytest
import trio

from pdfs.core.timing import Timing
from pdfs.errors import ObjectNotFound, StoreUnavailable
from pdfs.stage.together import background
from pdfs.store.retry import Patience
from pdfs.store.silence import LONG, Silence


def patience() -> Patience:
    return Patience(Timing(), lambda: 1.0)


def test_a_store_that_wants_peace_has_it_for_as_long_as_it_says() -> None:
    busy = StoreUnavailable("429", sent=False, retry_after=7.0)
    assert patience().wait_after(1, busy) == 7.0
    assert patience().wait_after(1, StoreUnavailable("503")) == Timing().wait_before_try(1)


async def test_a_bucket_that_refuses_every_connection_is_told_once_with_its_last_error() -> None:
    waiting, said, times = patience(), list[str](), list[float]()
    began = trio.current_time()

    async def refuse() -> None:
        await trio.lowlevel.checkpoint()
        raise StoreUnavailable(f"no route at {trio.current_time() - began:g}")

    def say(trouble: str) -> None:
        said.append(trouble)
        times.append(trio.current_time() - began)

    async def tell() -> None:
        await waiting.silence.tell(say)

    async with background(tell):
        with pytest.raises(StoreUnavailable):
            await waiting.ask(refuse)
    assert said == ["no route at 3.5"]
    assert times == [pytest.approx(LONG)]


async def test_a_bucket_that_answers_now_and_then_is_not_called_silent() -> None:
    waiting, said = patience(), list[str]()

    async def answer() -> None:
        await trio.sleep(LONG - 1)

    async def find_nothing() -> None:
        await answer()
        raise ObjectNotFound("nothing there")

    async def tell() -> None:
        await waiting.silence.tell(said.append)

    async with background(tell):
        await waiting.ask(answer)
        with pytest.raises(ObjectNotFound):
            await waiting.ask(find_nothing)
        await waiting.ask(answer)
        with trio.move_on_after(1):
            await waiting.ask(trio.sleep_forever)
        await trio.sleep(2 * LONG)
        assert said == []
        with trio.move_on_after(LONG + 1):
            await waiting.ask(trio.sleep_forever)
    assert said == [""], "nothing was heard of it"


async def test_a_silence_that_is_over_is_not_told() -> None:
    silence, said = Silence(), list[str]()

    async def tell() -> None:
        await silence.tell(said.append)

    async def cut() -> None:
        with silence.asking():
            await trio.sleep(LONG - 1)
            raise StoreUnavailable("cut")

    async with background(tell):
        with pytest.raises(StoreUnavailable):
            await cut()
        with silence.asking():
            await trio.lowlevel.checkpoint()
        await trio.sleep(2 * LONG)
    assert (said, silence.trouble) == ([], "")
