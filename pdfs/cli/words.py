"""Numbers and times in the words that every command uses."""

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


def span(seconds: float) -> str:
    """`20 s`, `2 min`, `3 h`, `5 days`, rounded down."""
    for unit, length in (("days", 2 * 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{int(seconds // (86400 if unit == 'days' else length))} {unit}"
    return f"{max(0, int(seconds))} s"


def printable(text: str) -> str:
    """`text` with escapes for what a terminal would obey or can't show, as names may have it."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


SET_ASIDE = "set aside, older or missing for other tools"
"""What is said of a file whose plain object is not what the generation says."""


def unended(session: str, user: str, machine: str, files: int, total: int) -> str:
    """Whose session of a stage has not ended, and that its work waits there.

    Locks count that work once a minute, so a session that is counted with nothing may have some.
    """
    counted = f"{amount(files, total)} waited there when last counted"
    waits = counted if files else "what it has not published, if anything, waits there"
    return printable(f"a session of {user} on {machine} ({session[:8]}) has not ended: {waits}")


def one_line(text: str) -> str:
    """`text` without line breaks, as an error message has to be."""
    return " ".join(text.split())
