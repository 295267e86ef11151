"""The ways in which programs save: what CAD programs, office programs and editors do (strace)."""

import fcntl
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.e2e.kills.diary import Diary, Told
from tests.e2e.kills.expected import ExpectedTree
from tests.e2e.kills.hand import Hand

NEW = os.O_CREAT | os.O_WRONLY | os.O_TRUNC
MOST = 96 << 10
Save = Callable[[Hand, random.Random, str], None]


def write(hand: Hand, path: str, sizes: Iterator[int], flags: int = NEW, mode: int = 0o644) -> int:
    """Open and write piece by piece; the handle."""
    handle, offset = hand.open(path, flags, mode), 0
    for size in sizes:
        hand.pwrite(handle, hand.bytes(size), offset)
        offset += size
    return handle


def pieces(choice: random.Random, least: int, most: int, count: int = 12) -> Iterator[int]:
    for _ in range(choice.randrange(1, count)):
        yield choice.randint(least, most)


def remove(hand: Hand, *paths: str) -> None:
    """Those that are there."""
    for path in paths:
        if hand.has(path):
            hand.unlink(path)


def move(hand: Hand, old: str, new: str) -> None:
    if hand.has(old):
        hand.rename(old, new)


def autocad(hand: Hand, choice: random.Random, name: str) -> None:
    """Lock files; a new file; the old one becomes the backup."""
    for lock in (f"{name}.dwl", f"{name}.dwl2"):
        hand.close(write(hand, lock, iter([60])))
    hand.close(write(hand, f"{name}.tmp", pieces(choice, 4096, 16384)))
    remove(hand, f"{name}.bak")
    move(hand, f"{name}.dwg", f"{name}.bak")
    hand.rename(f"{name}.tmp", f"{name}.dwg")
    remove(hand, f"{name}.dwl", f"{name}.dwl2")


def freecad(hand: Hand, choice: random.Random, name: str) -> None:
    """Renames twice, and never syncs; between the two the name is missing."""
    temporary = f"{name}.{choice.getrandbits(32):08x}"
    hand.close(write(hand, temporary, pieces(choice, 1, 40_000)))
    move(hand, f"{name}.FCStd", f"{name}.FCStd1")
    hand.rename(temporary, f"{name}.FCStd")


def libreoffice(hand: Hand, choice: random.Random, name: str) -> None:
    """Locks, syncs, renames over, sets the mode, and syncs again."""
    temporary, lock = f"lu{choice.getrandbits(32):08x}.tmp", f".~lock.{name}.ods#"
    hand.close(write(hand, lock, iter([80])))
    new = write(hand, temporary, pieces(choice, 512, 20_000), NEW | os.O_EXCL, 0o600)
    fcntl.lockf(hand.descriptor(new), fcntl.LOCK_EX)
    hand.fsync(new)
    hand.close(new)
    hand.rename(temporary, f"{name}.ods")
    hand.chmod(f"{name}.ods", 0o640)
    again = hand.open(f"{name}.ods", os.O_RDWR)
    hand.fsync(again)
    hand.close(again)
    remove(hand, lock)


def in_place(hand: Hand, choice: random.Random, name: str) -> None:
    """As OpenSCAD, gmsh and ezdxf: the document itself is emptied and written anew, no sync."""
    hand.close(write(hand, f"{name}.dxf", pieces(choice, 4096, 8192, 16)))


def ifcopenshell(hand: Hand, choice: random.Random, name: str) -> None:
    """Tiny writes to a temporary file, a rename."""
    hand.close(write(hand, f"{name}.ifc.tmp", pieces(choice, 1, 300, 30)))
    hand.rename(f"{name}.ifc.tmp", f"{name}.ifc")


def hdf5(hand: Hand, choice: random.Random, name: str) -> None:
    """Scattered writes into an existing file, under a lock; some longer than one request."""
    handle = hand.open(f"{name}.h5", os.O_CREAT | os.O_RDWR)
    fcntl.flock(hand.descriptor(handle), fcntl.LOCK_EX)
    for _ in range(choice.randrange(1, 20)):
        size = choice.choice([8, 96, 512, 2048, 20_000, choice.randrange(1, 3 << 20)])
        hand.pwrite(handle, hand.bytes(size), choice.randrange(1 << 20))
    if choice.random() < 0.3:
        hand.ftruncate(handle, choice.randrange(1 << 20))
    hand.close(handle)


def vim(hand: Hand, choice: random.Random, name: str) -> None:
    """The old file becomes the backup until the new one is synced."""
    swap, backup = f".{name}.txt.swp", f"{name}.txt~"
    swapped = write(hand, swap, iter([4096]), NEW, 0o600)
    move(hand, f"{name}.txt", backup)
    new = write(hand, f"{name}.txt", pieces(choice, 1, 8192))
    hand.fsync(new)
    hand.close(new)
    hand.chmod(f"{name}.txt", 0o664)
    hand.close(swapped)
    remove(hand, backup, swap)


def sed(hand: Hand, choice: random.Random, name: str) -> None:
    """A temporary file that gets the old one's mode and name."""
    temporary = f"sed{choice.getrandbits(24):06x}"
    new = write(hand, temporary, pieces(choice, 1, 4096), NEW, 0o600)
    hand.chmod(temporary, 0o644)
    hand.close(new)
    hand.rename(temporary, f"{name}.csv")


def rsync(hand: Hand, choice: random.Random, name: str) -> None:
    """A hidden file, its time, its mode, its name; now and then a hard link and an attribute."""
    temporary = f".{name}.pdf.{choice.getrandbits(24):06x}"
    hand.close(write(hand, temporary, pieces(choice, 1, 32768), NEW, 0o600))
    hand.utime(temporary, choice.randrange(1, 1 << 61))
    hand.chmod(temporary, choice.choice([0o644, 0o755, 0o444]))
    hand.rename(temporary, f"{name}.pdf")
    if choice.random() < 0.4:
        remove(hand, f"{name}.linked.pdf")
        hand.link(f"{name}.pdf", f"{name}.linked.pdf")
        hand.setxattr(f"{name}.pdf", "user.revision", str(choice.randrange(1 << 30)))


def log(hand: Hand, choice: random.Random, name: str) -> None:
    """Lines at the end of a list that others append to as well; begun anew when it is long."""
    if hand.has(f"{name}.log") and hand.size(f"{name}.log") > MOST:
        hand.rename(f"{name}.log", f"{name}.log.1")
    handle = hand.open(f"{name}.log", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    for size in pieces(choice, 1, 4000, 20):
        hand.append(handle, hand.bytes(size))
    hand.close(handle)


def folders(hand: Hand, choice: random.Random, name: str) -> None:
    """A folder that is filled under one name and then gets another; what it replaces is kept."""
    new, old = f"{name} new", f"{name} {choice.getrandbits(32):08x}"
    if not hand.has(new):
        hand.mkdir(new, 0o750)
    hand.close(write(hand, f"{new}/{choice.randrange(5)}.jt", pieces(choice, 1, 4096)))
    move(hand, f"{name} folder", old)
    hand.rename(new, f"{name} folder")


WAYS: tuple[Save, ...] = (
    *(autocad, freecad, libreoffice, in_place, ifcopenshell, hdf5, vim, sed, rsync, log, folders),
)


class Saves:
    """Documents that are saved over and over, by every kind of program."""

    def __init__(self, outside: Path) -> None:
        self._expected = ExpectedTree()

    def prepare(self, top: Path) -> None:
        """The programs make what they need."""

    @staticmethod
    def work(top: Path, outside: Path, diary: Diary, name: str) -> None:
        """Save for ever."""
        choice, hand = random.Random(name), Hand(top, diary, name)
        while True:
            choice.choice(WAYS)(hand, choice, choice.choice(["PID-0001", "Rohrklasse ü"]))

    def check(self, top: Path, told: Told) -> None:
        """Every byte and mode, and the times that were set."""
        self._expected.check(top, told)
