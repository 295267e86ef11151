"""Intervals: the product's, and those of tests that shorten them."""

from collections.abc import Mapping
from dataclasses import fields

import pytest

from pdfs.core.timing import Timing, override
from pdfs.errors import UsageError


def test_the_intervals_are_those_of_the_design() -> None:
    timing = Timing()
    assert (timing.renewal, timing.expiry, timing.same_user_elsewhere) == (60, 12 * 3600, 600)
    assert (timing.foreign_plan_wait, timing.delete_valid, timing.flush) == (60, 30, 1)


def test_overriding_changes_what_is_named_and_nothing_else() -> None:
    chosen = override(Timing(), {"renewal": 5, "flush": 0.25})
    changed = {
        field.name
        for field in fields(Timing)
        if getattr(chosen, field.name) != getattr(Timing(), field.name)
    }
    assert changed == {"renewal", "flush"}
    assert chosen.renewal == 5.0
    assert override(Timing(), {}) == Timing()


@pytest.mark.parametrize(
    "values",
    [
        {"renewall": 5},
        {"renewal": "5"},
        {"renewal": True},
        {"renewal": None},
        {"renewal": [5]},
        {"renewal": 0},
        {"renewal": -1},
        {"renewal": float("nan")},
        {"renewal": float("inf")},
        {"renewal": 10**400},
        {"renewal": 12 * 3600},
        {"expiry": 60},
        {"delete_valid": 60},
        {"foreign_plan_wait": 30},
    ],
)
def test_an_override_that_breaks_a_protocol_is_refused_in_words(
    values: Mapping[str, object],
) -> None:
    with pytest.raises(UsageError, match="timing"):
        override(Timing(), values)


def test_the_waits_between_tries_double_up_to_a_limit() -> None:
    waits = [Timing().wait_before_try(number) for number in range(1, 9)]
    assert waits == [0.5, 1, 2, 4, 8, 16, 30, 30]
    assert Timing().wait_before_try(100_000) == 30
