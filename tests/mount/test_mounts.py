"""The kernel's table of mounts, with whatever names people give to directories."""

import pytest

from pdfs.mount.mounts import Mounted, parse_mounts

USUAL = r"36 35 8:1 / / rw,noatime shared:1 - ext4 /dev/root rw"


@pytest.mark.parametrize("letter", ["\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\u2029", "\r"])
def test_a_name_with_what_others_take_for_a_line_end_is_one_name(letter: str) -> None:
    table = f"{USUAL}\n41 36 0:61 / /mnt/a{letter}b rw - fuse.pdfs plant/stage rw\n"
    assert parse_mounts(table) == [
        Mounted("/", "ext4", "/dev/root", "8:1"),
        Mounted(f"/mnt/a{letter}b", "fuse.pdfs", "plant/stage", "0:61"),
    ]


def test_blanks_and_line_ends_in_names_are_read_as_the_kernel_writes_them() -> None:
    (mounted,) = parse_mounts(r"41 36 0:61 / /a\040b\012c\134d rw - fuse.pdfs x\040y rw")
    assert (mounted.mountpoint, mounted.source) == ("/a b\nc\\d", "x y")
