"""Times as people read them."""

import time
from collections.abc import Iterator
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdfs.core.moments import decimal_seconds, local_moment, rough_span


@pytest.fixture
def _berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("_berlin")
def test_a_time_is_that_of_the_wall_and_says_how_far_it_is_from_utc() -> None:
    assert local_moment(1_800_000_000) == "2027-01-15 09:00:00 +0100"
    assert local_moment(1_815_000_000.9) == "2027-07-08 00:40:00 +0200"


@pytest.mark.parametrize("seconds", [1e18, -1e18, float("nan"), float("inf")])
def test_a_time_that_no_calendar_has_is_left_out(seconds: float) -> None:
    assert local_moment(seconds) == ""


@given(st.integers(-(1 << 63) * 10**9, (1 << 63) * 10**9) | st.sampled_from([-1, 0, 1, -(10**9)]))
def test_a_time_for_other_tools_is_the_same_number_also_before_1970(ns: int) -> None:
    assert Decimal(decimal_seconds(ns)) * 10**9 == ns


def test_a_time_for_other_tools_has_nine_decimals() -> None:
    assert decimal_seconds(-1) == "-0.000000001"
    assert decimal_seconds(1_500_000_000_120_000_000) == "1500000000.120000000"


def test_an_estimated_time_is_rounded_to_what_it_is_worth() -> None:
    said = [rough_span(seconds) for seconds in (0, 0.4, 59, 60, 119, 7199, 7200, 20_000)]
    assert said == ["1 s", "1 s", "59 s", "1 min", "2 min", "120 min", "2 h", "6 h"]
