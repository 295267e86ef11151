"""How a journal ends: whole, torn by a crash, or damaged; what the loader finds, as values."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class TornTail:
    """What a crash left behind the last record: nothing of it was ever called synced."""

    file: str
    offset: int
    """First byte that is not part of what was replayed."""
    size: int
    """Bytes from there to the last one in that file that is not zero."""
    intact_records: int
    """Whole records behind it, not replayed since one before them is missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """Bytes that were on the disk are not there any more, or not the same."""

    file: str
    offset: int
    """First bad byte."""
    size: int
    """Bytes from there to the last one in that file that is not zero."""
    last_sequence: int
    """Of the last record that was replayed."""
    lost_records: int
    """So many at least were written after that one and not replayed."""
    intact_records: int
    """Those of them that are still whole in the files."""
    why: str = ""
    """Why a whole record is not to be believed; empty for bytes that are no record."""
    is_gone: bool = False
    """There is no such file, and there was one."""

    def __str__(self) -> str:
        lost = "no operation is known to be lost"
        if self.is_gone:
            lost = f"what was done after operation number {self.last_sequence} is lost"
        if self.lost_records:
            lost = (
                f"at least {self.lost_records} operations after number {self.last_sequence} are"
                f" lost, {self.intact_records} of them still readable behind the damage"
            )
        why = f"; {self.why}" if self.why else ""
        if self.is_gone:
            return f"{self.file} is gone: {lost}{why}"
        return f"{self.file} is damaged from byte {self.offset} on ({self.size} bytes): {lost}{why}"


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """How a journal ends."""

    last_sequence: int
    """Of the last record, or of the snapshot where there is none."""
    highest_sequence: int
    """The highest number seen anywhere: a new journal of this session begins above it."""
    is_whole: bool
    """It was closed, and nothing was changed since."""
    torn_tail: TornTail | None
    damage: Damage | None
