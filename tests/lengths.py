"""How long the tests run: a sample, what CI promises, or for hours."""

from enum import StrEnum
from typing import TypeVar

T = TypeVar("T")


class Length(StrEnum):
    """`PDFS_TEST_LENGTH`."""

    SAMPLE = "sample"
    """`scripts/test`: of each figure a part, another one with each commit."""
    FULL = "full"
    """`scripts/test --full`: the figures that are promised."""
    LONG = "long"
    """`scripts/torture`: as far as somebody is ready to wait for."""

    def pick(self, *, sample: T, full: T, long: T) -> T:
        """The one of three that this length means."""
        return {Length.SAMPLE: sample, Length.FULL: full, Length.LONG: long}[self]
