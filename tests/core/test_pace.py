"""The time to go: a number where the last while tells it, and none where it does not."""

from dataclasses import replace

import pytest

from pdfs.core.pace import SHORTEST, STALLED, WINDOW, Pace
from pdfs.core.progress import Phase, Progress

MIB = 1 << 20
BIG = Progress(phase=Phase.UPLOAD, of_files=1, of_bytes=1000 * MIB)
MANY = Progress(phase=Phase.PUBLISH, of_files=1000, of_bytes=0)


def watched(
    progress: Progress,
    rates: list[tuple[float, int, int]],
    pace: Pace | None = None,
    now: float = 0,
) -> tuple[Pace, Progress, float]:
    """Look five times a second at so many seconds of so many files and bytes a second each."""
    pace = (pace or Pace()).seen(now, progress)
    for seconds, files, size in rates:
        begun = progress
        for look in range(1, round(seconds * 5) + 1):
            progress = replace(
                begun, files=begun.files + files * look // 5, bytes=begun.bytes + size * look // 5
            )
            pace = pace.seen(now + look / 5, progress)
        now += seconds
    return pace, progress, now


def left_after(progress: Progress, *rates: tuple[float, int, int]) -> float | None:
    pace, progress, now = watched(progress, list(rates))
    return pace.seconds_left(now, progress)


def test_what_is_left_is_divided_by_the_rate_of_the_last_while() -> None:
    assert left_after(BIG, (100, 0, 5 * MIB)) == pytest.approx(100, rel=0.05)
    slower = left_after(BIG, (50, 0, 10 * MIB), (WINDOW + 2, 0, 1 * MIB))
    assert slower == pytest.approx(1000 - 500 - WINDOW - 2, rel=0.05), (
        "what was before is forgotten"
    )


def test_many_small_files_are_judged_by_their_number() -> None:
    assert left_after(MANY, (10, 20, 0)) == pytest.approx(40, rel=0.05)
    mixed = replace(MANY, of_bytes=MIB)
    assert left_after(mixed, (10, 20, MIB // 20)) == pytest.approx(40, rel=0.05)


def test_the_first_seconds_tell_nothing() -> None:
    assert left_after(BIG) is None
    assert left_after(BIG, (SHORTEST - 0.4, 0, 5 * MIB)) is None
    assert left_after(BIG, (SHORTEST + 0.4, 0, 5 * MIB)) is not None


def test_what_does_not_move_has_no_time_to_go() -> None:
    assert left_after(BIG, (60, 0, 0)) is None
    moving = (20.0, 0, 5 * MIB)
    assert left_after(BIG, moving, (STALLED - 1, 0, 0)) is not None
    assert left_after(BIG, moving, (STALLED + 1, 0, 0)) is None
    assert left_after(BIG, moving, (STALLED + 1, 0, 0), (5, 0, 5 * MIB)) is not None


def test_files_that_come_in_while_bytes_stand_still_tell_nothing_of_the_bytes() -> None:
    assert left_after(replace(BIG, of_files=100), (10, 1, 0)) is None


def test_a_count_that_begins_again_is_judged_anew() -> None:
    pace, progress, now = watched(replace(BIG, of_files=9), [(20, 0, 5 * MIB)])
    ahead = replace(progress, files=3)
    assert pace.seen(now, ahead).seconds_left(now, ahead) is not None
    pace = pace.seen(now, ahead).seen(now + 1, progress)
    pace = pace.seen(now + 2, replace(progress, files=3)).seen(now + 3, progress)
    assert pace.seconds_left(now + 3, progress) is None


def test_what_comes_after_the_last_byte_is_not_judged() -> None:
    assert left_after(BIG, (10, 0, 100 * MIB)) is None


def test_a_wait_has_its_own_length() -> None:
    assert left_after(replace(BIG, phase=Phase.WAIT), (20, 0, 5 * MIB)) is None
