"""What holds for every test.

- All chance comes from one number, `PDFS_TEST_SEED`, which the header shows: Hypothesis' examples
  and trio's order of tasks too. `PDFS_TEST_LENGTH` is `sample`, `full` or `long` (`lengths.py`).
- `@pytest.mark.figure(name="C1")` says which figure of reliability a test holds; it calls
  `reached(100, "kills")`, and the run ends with what was reached in all. After `PDFS_TEST_UNTIL`,
  in seconds of the epoch, no such test begins.
- `async def test_…` runs under trio, also below `@given`. Its clock jumps over every wait; a test
  that waits for threads, sockets or processes, which the jump would overtake, is marked
  `real_clock`. Fixtures are not async: a test opens what it needs.
- A log record of `pdfs` at WARNING or above fails the test, unless `expected_warnings` took it.
- No test sees this user's buckets, credentials, configuration or sessions.
- A run by CI is as one by hand: there pytest would show the whole difference of two contents, which
  takes minutes to find, and Hypothesis the same examples with every seed.
"""

import functools
import inspect
import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import hypothesis
import pytest
import trio
from trio.testing import MockClock

from tests.lengths import Length

pytest_plugins = ["tests.store.running"]

for _name in ("CI", "BUILD_NUMBER"):
    os.environ.pop(_name, None)

SEED = int(os.environ.get("PDFS_TEST_SEED", "0"))
LENGTH = Length(os.environ.get("PDFS_TEST_LENGTH", Length.SAMPLE))
UNTIL = float(os.environ.get("PDFS_TEST_UNTIL", "inf"))
LIMITS = {Length.FULL: 7200.0, Length.LONG: 86400.0}
"""Seconds for a test, where it is longer than usual."""

Reached = Callable[[int, str], None]
"""What a test tells when it is over: how much of its figure, and of what."""

for _length, _examples in {Length.SAMPLE: 50, Length.FULL: 2000, Length.LONG: 20_000}.items():
    hypothesis.settings.register_profile(
        _length,
        max_examples=_examples,
        # Which examples run depends on the seed alone: not on earlier runs, nor on speed.
        database=None,
        derandomize=False,
        deadline=None,
        suppress_health_check=[hypothesis.HealthCheck.too_slow],
        print_blob=True,
    )


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    hypothesis.settings.load_profile(LENGTH)
    if config.option.hypothesis_seed is None:
        config.option.hypothesis_seed = str(SEED)


def pytest_report_header() -> str:
    return f"repeat with: PDFS_TEST_SEED={SEED} PDFS_TEST_LENGTH={LENGTH}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give a test its time: the limits of the tests are for what hangs, at their usual length."""
    for item in items if LENGTH in LIMITS else ():
        item.add_marker(pytest.mark.timeout(LIMITS[LENGTH]), append=False)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if figure := item.get_closest_marker("figure"):
        item.user_properties.append((f"figure {figure.kwargs['name']}", (1, "tests")))
        if time.time() > UNTIL:
            pytest.skip("the time is over")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What was reached of each figure, by tests that passed and by those that did not."""
    counts: Counter[tuple[str, str]] = Counter()
    for outcome in ("passed", "failed", "error", "skipped"):
        for report in terminalreporter.getreports(outcome):
            told = [
                each
                for each in getattr(report, "user_properties", ())
                if each[0].startswith("figure ")
            ]
            for figure, (count, what) in told:
                counts[figure.removeprefix("figure "), f"{what} {outcome}"] += count
    if counts:
        terminalreporter.section(f"reached with PDFS_TEST_SEED={SEED} PDFS_TEST_LENGTH={LENGTH}")
    for (figure, what), count in sorted(counts.items()):
        terminalreporter.write_line(f"{figure}: {count:,} {what}")


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> None:
    """Replace an async test, or the async body of a Hypothesis test, by one that trio runs."""
    real_clock = pyfuncitem.get_closest_marker("real_clock") is not None
    given = getattr(pyfuncitem.obj, "hypothesis", None)
    if given is not None and inspect.iscoroutinefunction(given.inner_test):
        given.inner_test = _under_trio(given.inner_test, real_clock=real_clock)
    elif inspect.iscoroutinefunction(pyfuncitem.obj):
        pyfuncitem.obj = _under_trio(pyfuncitem.obj, real_clock=real_clock)


def _under_trio(
    test: Callable[..., Coroutine[Any, Any, None]], *, real_clock: bool
) -> Callable[..., None]:
    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        # Hypothesis' plugin for trio has made scheduling depend on this generator alone.
        trio._core._run._r.seed(SEED)
        clock = None if real_clock else MockClock(autojump_threshold=0)
        trio.run(functools.partial(test, *args, **kwargs), clock=clock)

    return run


class ExpectedWarnings(logging.Handler):
    """The warnings that the test has logged and not yet taken, oldest first."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def take(self, words: str) -> logging.LogRecord:
        """Remove and return the oldest warning whose message contains `words`."""
        for record in self.records:
            if words in record.getMessage():
                self.records.remove(record)
                return record
        pytest.fail(f"no warning says {words!r}; there were: {self.messages()}")

    def messages(self) -> list[str]:
        return [f"{record.levelname} {record.getMessage()}" for record in self.records]


@pytest.fixture(autouse=True)
def expected_warnings() -> Iterator[ExpectedWarnings]:
    """`expected_warnings.take("words")` for each warning that the test provokes."""
    warnings = ExpectedWarnings()
    logger = logging.getLogger("pdfs")
    logger.addHandler(warnings)
    yield warnings
    logger.removeHandler(warnings)
    assert not warnings.records, f"unexpected warnings: {warnings.messages()}"


@pytest.fixture(scope="session")
def seed() -> int:
    """The number that all of a test's chance is drawn from."""
    return SEED


@pytest.fixture(scope="session")
def is_full() -> bool:
    """The run takes the time to cover all that a test can; else a sample of it is enough."""
    return LENGTH != Length.SAMPLE


@pytest.fixture(scope="session")
def length() -> Length:
    """For tests that have more than two lengths."""
    return LENGTH


@pytest.fixture
def reached(request: pytest.FixtureRequest) -> Reached:
    """`reached(100, "kills")` is added to what the run says of the test's figure."""
    figure = request.node.get_closest_marker("figure").kwargs["name"]

    def reach(count: int, what: str) -> None:
        request.node.user_properties.append((f"figure {figure}", (count, what)))

    return reach


@pytest.fixture(scope="session", autouse=True)
def _stranger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Hide what belongs to the user who runs the tests, in this process and those it starts."""
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith(("AWS_", "PDFS_", "XDG_")) and not name.startswith("PDFS_TEST_"):
                patch.delenv(name)
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        yield
