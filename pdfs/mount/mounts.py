"""What is mounted in this name space, by the kernel's own table: no mount is ever touched."""

import os
import re
from dataclasses import dataclass
from typing import Final

from pdfs.disk import read_path

KIND: Final = "fuse.pdfs"
"""Of mounts of PDFS."""
_TABLE: Final = "/proc/self/mountinfo"
_ESCAPED: Final = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Mounted:
    """A mount as the kernel lists it."""

    mountpoint: str
    kind: str
    """`fuse.pdfs`, `ext4`, …"""
    source: str
    device: str
    """Its device number, which no other mount has that lives: `0:61`. A rename leaves it."""


def mount_at(path: str) -> Mounted | None:
    """The newest mount at exactly that path."""
    found = [each for each in read_mounts() if each.mountpoint == path]
    return found[-1] if found else None


def read_mounts() -> list[Mounted]:
    """All that is mounted, the oldest first."""
    return parse_mounts(os.fsdecode(read_path(_TABLE)))


def parse_mounts(table: str) -> list[Mounted]:
    """The mounts in the text of a mountinfo. Of line ends, only "\n" stands in no name there."""
    return [_mounted(line) for line in table.split("\n") if " - " in line]


def _mounted(line: str) -> Mounted:
    """One line of mountinfo, see proc(5); blanks and the like are octal there."""
    left, _, right = line.partition(" - ")
    kind, source = right.split(" ")[:2]
    device, _, mountpoint = left.split(" ")[2:5]
    return Mounted(_unescaped(mountpoint), kind, _unescaped(source), device)


def _unescaped(text: str) -> str:
    return _ESCAPED.sub(lambda match: chr(int(match[1], 8)), text)
