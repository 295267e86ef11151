"""Numbers of files and bytes as people read them."""

_UNITS = ("KiB", "MiB", "GiB", "TiB")


def size(count: int) -> str:
    """`0 bytes`, `1.5 GiB`."""
    if count < 1024:
        return f"{count} byte{'' if count == 1 else 's'}"
    power = min(len(_UNITS), (count.bit_length() - 1) // 10)
    return f"{count / 1024**power:.1f} {_UNITS[power - 1]}"


def count(number: int, what: str) -> str:
    """`1 file`, `14 files`."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def amount(files: int, total: int) -> str:
    """`14 files (3.2 MiB)`."""
    return f"{count(files, 'file')} ({size(total)})"
